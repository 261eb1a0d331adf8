//go:build !unix

package idle

import (
	"errors"
	"net"
)

// inherit has nothing to inherit here.
func inherit(int, string) (net.Listener, error) {
	return nil, errors.ErrUnsupported
}
