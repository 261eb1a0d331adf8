//go:build !linux

package volume

import (
	"context"
	"errors"

	"github.com/lockport/lockport/secret"
)

// KeySource is where a key file's bytes are. Reading it needs Linux.
type KeySource struct{ Path string }

// Read fails here.
func (KeySource) Read(context.Context) (*secret.Bytes, error) {
	return nil, errors.New("key files are read on Linux only")
}
