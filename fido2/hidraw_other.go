//go:build !linux

package fido2

import (
	"context"
	"errors"
	"fmt"
)

// openNode needs Linux.
func openNode(_ context.Context, path string) (Conn, error) {
	return nil, fmt.Errorf("%s: security keys: %w", path, errors.ErrUnsupported)
}
