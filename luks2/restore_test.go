package luks2_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
)

// TestRestoreGuards restores onto volumes that differ from that of the backup
// in one thing.
func TestRestoreGuards(t *testing.T) {
	t.Parallel()
	backup := baseImage(t)
	for _, v := range []struct {
		name   string
		volume func(t *testing.T) []byte
		want   string
	}{
		{"other UUID", poke(uuidAt, "1").image, "the backup is of volume 0b5c"},
		{"other offset", put("1048576", "segments", "0", "offset").image, "describes the data differently"},
		{"other cipher", put("aes-xts-plain64", "segments", "0", "encryption").image, "describes the data differently"},
		{"other sector size", put(4096, "segments", "0", "sector_size").image, "describes the data differently"},
		{"other key", put(strings.Repeat("A", 43)+"=", "digests", "0", "digest").image, "the key of other data"},
		{"no header", func(*testing.T) []byte { return make([]byte, baseSize) }, "not a LUKS2 volume"},
		{"too small", func(t *testing.T) []byte { return baseImage(t)[:baseSize-1] }, "the device has"},
		{"integrity", put(object{"type": "x"}, "segments", "0", "integrity").image, "integrity"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			image := v.volume(t)
			before := slices.Clone(image)
			s := luks2.NewMemory(image)
			try := func(o luks2.RestoreOptions) error {
				return luks2.Restore(t.Context(), s, bytes.NewReader(backup), int64(len(backup)), o)
			}
			if err := try(luks2.RestoreOptions{}); err == nil || !strings.Contains(err.Error(), v.want) {
				t.Errorf("got %v, want %q", err, v.want)
			}
			if !bytes.Equal(before, image) {
				t.Error("something was written")
			}
			err := try(luks2.RestoreOptions{Anyway: true})
			if v.name == "too small" {
				if err == nil || !bytes.Equal(before, image) {
					t.Errorf("restored anyway: %v", err)
				}
				return
			}
			if err != nil {
				t.Errorf("anyway: %v", err)
				return
			}
			alive(t, image, 1, map[int]string{0: "first", 1: "second"})
		})
	}
}

// image is baseImage with the change.
func (c change) image(t *testing.T) []byte { return c.apply(t, baseImage(t)) }

// TestBadBackup refuses a backup before anything is written.
func TestBadBackup(t *testing.T) {
	t.Parallel()
	bad := map[string][]byte{
		"empty":       nil,
		"cut":         baseImage(t)[:baseSize-1],
		"both bad":    baseImage(t),
		"requirement": put(object{"mandatory": list{"x"}}, "config", "requirements").image(t),
	}
	bad["both bad"][100] ^= 1
	bad["both bad"][copySize+100] ^= 1
	for name, b := range bad {
		image := baseImage(t)
		before := slices.Clone(image)
		err := luks2.Restore(t.Context(), luks2.NewMemory(image), bytes.NewReader(b), int64(len(b)), luks2.RestoreOptions{Anyway: true})
		if err == nil || !strings.Contains(err.Error(), "reading the backup") || !bytes.Equal(before, image) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One whole copy is enough.
	half := baseImage(t)
	half[100] ^= 1
	image := baseImage(t)
	if err := luks2.Restore(t.Context(), luks2.NewMemory(image), bytes.NewReader(half), int64(len(half)), luks2.RestoreOptions{}); err != nil {
		t.Error(err)
	}
	if h := alive(t, image, 1, map[int]string{0: "first", 1: "second"}); h != nil && h.Damage() != nil {
		t.Error(h.Damage())
	}
}

// TestBackupErrors passes on what the writer says.
func TestBackupErrors(t *testing.T) {
	t.Parallel()
	if err := reopen(t, luks2.NewMemory(baseImage(t))).Backup(t.Context(), fullWriter{}); !errors.Is(err, errPower) {
		t.Errorf("got %v", err)
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errPower }
