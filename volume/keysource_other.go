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
func (k KeySource) Read(ctx context.Context) (*secret.Bytes, error) { return k.read(ctx) }

func (KeySource) read(context.Context) (*secret.Bytes, error) {
	return nil, errors.New("key files are read on Linux only")
}
