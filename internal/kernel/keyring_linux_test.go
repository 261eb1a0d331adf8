package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/secret"
)

// userKey puts a key into the user's keyring for the test.
func userKey(t *testing.T) string {
	t.Helper()
	var text [8]byte
	r := secret.Random(len(text))
	defer r.Wipe()
	return fmt.Sprintf("lockport-test-%x", r.Reveal())
}

func dropUserKey(t *testing.T, description string) {
	t.Helper()
	err := withUserKeyring(func() error {
		id, err := requestKey("user", description)
		if err != nil {
			return err
		}
		_, err = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_USER_KEYRING, 0, 0)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	name := userKey(t)
	if s, err := CacheGet(name); !errors.Is(err, ErrNoKey) {
		t.Fatalf("%v %v", s, err)
	}
	payload := secret.Copy([]byte("one\x00two"))
	defer payload.Wipe()
	if err := CachePut(name, payload, time.Hour); err != nil {
		if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
			t.Skip("no keyring here:", err)
		}
		t.Fatal(err)
	}
	defer dropUserKey(t, name)
	got, err := CacheGet(name)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Wipe()
	if !got.Equal(payload) {
		t.Error("another payload came back")
	}
	keys, err := os.ReadFile("/proc/keys")
	if err != nil {
		t.Fatal(err)
	}
	for row := range strings.Lines(string(keys)) {
		if strings.Contains(row, name) && !strings.Contains(row, " 59m ") && !strings.Contains(row, " 1h ") {
			t.Errorf("the timeout is not an hour: %s", row)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	if s, err := Key(userKey(t)); !errors.Is(err, ErrNoKey) {
		t.Fatalf("%v %v", s, err)
	}
	if _, err := Key("a\x00b"); err == nil || errors.Is(err, ErrNoKey) {
		t.Errorf("NUL in a description: %v", err)
	}
	// A key of the thread is found as well, and only there.
	name := userKey(t)
	err := onOwnThread(func() error {
		if _, err := unix.AddKey("user", name, []byte("payload"), unix.KEY_SPEC_THREAD_KEYRING); err != nil {
			return err
		}
		s, err := Key(name)
		if err != nil {
			return err
		}
		defer s.Wipe()
		if string(s.Reveal()) != "payload" {
			return errors.New("another payload came back")
		}
		return nil
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skip("no keyring here:", err)
	}
	if err != nil {
		t.Error(err)
	}
	if _, err := Key(name); !errors.Is(err, ErrNoKey) {
		t.Errorf("the thread's key outlived it: %v", err)
	}
}
