// Package image finds and opens OS images: by name in the places where portable
// services are kept, or by path. What is in an image is read in this process,
// and taken for an attacker's: a symbolic link leads to where it would lead for
// a process with the image as its root directory, and nowhere else. Only a file
// system that can't be read here is mounted, and only by whom [WithMounter]
// names.
//
// All paths hang off a root directory that the caller gives, and are written as
// someone sees them who has that root.
package image

import (
	"errors"

	"github.com/lockport/lockport/internal/verity"
)

var (
	// ErrNotFound: there is no image of that name or path.
	ErrNotFound = errors.New("no such image")
	// ErrUnsupported: it may well be an image, but this package can't read it.
	ErrUnsupported = errors.New("can't be read")
	// ErrNotImage: it is there, but it is no image.
	ErrNotImage = errors.New("not an image")
	// ErrEncrypted: there is no key to read it with.
	ErrEncrypted = errors.New("is encrypted")
	// ErrPolicy: the image policy does not allow the image.
	ErrPolicy = errors.New("the image policy does not allow it")
	// ErrUnsigned: there is a root hash, and nobody has signed it.
	ErrUnsigned = errors.New("no signature")
	// ErrUntrusted: whoever signed the root hash, the certificate is not here.
	ErrUntrusted = verity.ErrUntrusted
)
