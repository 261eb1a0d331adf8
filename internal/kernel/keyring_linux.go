package kernel

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/secret"
)

// Key returns the payload of the key of type "user" with that description, as
// found in the keyrings of this process. A missing key gives [ErrNoKey]. The
// caller wipes the result.
func Key(description string) (*secret.Bytes, error) {
	s, err := findKey(description)
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", description, err)
	}
	return s, nil
}

// CacheGet returns the payload of a key in the user's own keyring, where
// typed passwords are kept for other volumes. A missing or expired one gives
// [ErrNoKey]. The caller wipes the result.
func CacheGet(description string) (*secret.Bytes, error) {
	var s *secret.Bytes
	err := withUserKeyring(func() (err error) {
		s, err = findKey(description)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cached key %q: %w", description, err)
	}
	return s, nil
}

// CachePut puts a key into the user's own keyring, replacing one of the same
// description. The kernel drops it after the timeout, which is counted in whole
// seconds; 0 keeps it. The caller keeps and wipes the payload.
func CachePut(description string, payload *secret.Bytes, timeout time.Duration) error {
	err := withUserKeyring(func() error {
		id, err := unix.AddKey("user", description, payload.Reveal(), unix.KEY_SPEC_USER_KEYRING)
		if err != nil {
			return err
		}
		seconds := int((timeout + time.Second - 1) / time.Second)
		if _, err := unix.KeyctlInt(unix.KEYCTL_SET_TIMEOUT, id, seconds, 0, 0); err != nil {
			// A password that would stay for ever must not stay at all.
			_, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0)
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("caching key %q: %w", description, err)
	}
	return nil
}

// withUserKeyring runs f where the user's keyring counts as our own, which it
// does not in a service that has a session keyring to itself.
func withUserKeyring(f func() error) error {
	return onOwnThread(func() error {
		_, err := unix.KeyctlInt(unix.KEYCTL_LINK, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_THREAD_KEYRING, 0, 0)
		if err != nil {
			return err
		}
		return f()
	})
}

// findKey searches without ever asking a helper in user space for the key.
func findKey(description string) (*secret.Bytes, error) {
	id, err := requestKey("user", description)
	switch {
	case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EKEYEXPIRED), errors.Is(err, unix.EKEYREVOKED):
		return nil, ErrNoKey
	case errors.Is(err, unix.ENOSYS):
		return nil, fmt.Errorf("keyring is %w", ErrUnsupported)
	case err != nil:
		return nil, err
	}
	return readKey(id)
}

// requestKey is request_key(2) without callout information, which the wrapper
// of x/sys can't express.
func requestKey(kind, description string) (int, error) {
	k, err := unix.BytePtrFromString(kind)
	if err != nil {
		return 0, err
	}
	d, err := unix.BytePtrFromString(description)
	if err != nil {
		return 0, err
	}
	id, _, errno := unix.Syscall6(unix.SYS_REQUEST_KEY, uintptr(unsafe.Pointer(k)), uintptr(unsafe.Pointer(d)), 0, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(id), nil
}

// maxKey bounds the payload of a user key: the kernel's own limit.
const maxKey = 32767

func readKey(id int) (*secret.Bytes, error) {
	buf := secret.New(maxKey)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf.Reveal(), 0)
	if err != nil {
		buf.Wipe()
		return nil, err
	}
	if n > maxKey {
		buf.Wipe()
		return nil, secret.ErrTooLong
	}
	buf.Shrink(n)
	return buf, nil
}
