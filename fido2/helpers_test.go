package fido2_test

import (
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/fido2/fido2test"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/secret/secrettest"
	"github.com/lockport/lockport/volume"
)

func TestMain(m *testing.M) { secrettest.Main(m) }

// diary collects what a person is told.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(kind string) func(string) {
	return func(text string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lines = append(d.lines, kind+": "+text)
	}
}

func (d *diary) err(kind string) func(error) {
	return func(err error) { d.add(kind)(err.Error()) }
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, "\n")
}

func (d *diary) count(kind string) int {
	n := 0
	for _, line := range strings.Split(d.String(), "\n") {
		if strings.HasPrefix(line, kind+": ") {
			n++
		}
	}
	return n
}

// keyFor unlocks with what is plugged in at a port.
func keyFor(p fido2.Port, d *diary) *fido2.Key {
	return &fido2.Key{Port: p, Touch: d.add("touch"), Waiting: d.err("waiting"), Failed: d.err("failed")}
}

func enrollerFor(p fido2.Port, d *diary) *fido2.Enroller {
	return &fido2.Enroller{Port: p, UUID: "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", Volume: "/dev/sda2",
		Touch: d.add("touch"), Failed: d.err("failed"), Notice: d.add("notice")}
}

// plugged is a port with keys.
func plugged(keys ...*fido2test.Key) *fido2test.Port {
	p := &fido2test.Port{}
	for _, k := range keys {
		p.Plug(k)
	}
	return p
}

// memory is a volume's store.
type memory []byte

func (m memory) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > int64(len(m)) {
		return 0, io.EOF
	}
	return copy(b, m[off:]), nil
}

func (m memory) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }
func (m memory) Sync() error                              { return nil }

// newVolume makes a volume with one passphrase, "first", and returns its volume key.
func newVolume(t testing.TB) (*luks2.Header, *secret.Bytes) {
	t.Helper()
	pass := secret.Copy([]byte("first"))
	defer pass.Wipe()
	h, key, err := luks2.Format(t.Context(), make(memory, 8<<20), pass, luks2.FormatOptions{DataOffset: 1 << 20, KeySize: 32,
		Fast: true, KDF: luks2.Minimal()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	return h, key
}

// enrol adds a keyslot for a key.
func enrol(t testing.TB, h *luks2.Header, key *secret.Bytes, e *fido2.Enroller, ask volume.Asker) int {
	t.Helper()
	done, err := volume.Enroll(t.Context(), h, key, e, ask, volume.EnrollOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done.Pass.Wipe()
	return done.Keyslot
}

// opens unlocks with a method and returns the keyslot.
func opens(t testing.TB, h *luks2.Header, want *secret.Bytes, m volume.Method, ask volume.Asker) (int, error) {
	t.Helper()
	key, _, err := m.VolumeKey(t.Context(), h, ask, 0)
	if err != nil {
		return -1, err
	}
	defer key.Volume.Wipe()
	if !key.Volume.Equal(want) {
		t.Fatal("another volume key")
	}
	return key.Keyslot, nil
}

// policy tells in words what a keyslot asks for.
func policy(t testing.TB, h *luks2.Header, slot int) string {
	t.Helper()
	for _, s := range volume.List(h) {
		if s.ID == slot && s.Kind == volume.FIDO2 {
			return s.Policy
		}
	}
	t.Fatalf("keyslot %d is not one of FIDO2", slot)
	return ""
}
