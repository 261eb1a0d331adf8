//go:build !linux

package tpm2

import "fmt"

// openNode is for Linux alone.
func openNode(path string) (Device, error) { return nil, fmt.Errorf("%w: %s", ErrNoTPM, path) }
