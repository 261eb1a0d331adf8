// Package build makes images of portable services: a tree of files from a
// specification, from an installed system or from an OCI image, and from that a
// squashfs or erofs image, with a hash tree and a signature, or a directory.
//
// Nothing here needs root, a loop device or another program. Equal input gives
// equal bytes on every machine: what depends on the machine, such as owners and
// times of sources, is not taken over, or bounded by [Output.NotAfter].
package build

import "errors"

var (
	// ErrSpec: a specification does not say what is needed, or contradicts itself.
	ErrSpec = errors.New("the specification")
	// ErrUnsafe: a source has something in it that leads out of the image.
	ErrUnsafe = errors.New("unsafe")
)
