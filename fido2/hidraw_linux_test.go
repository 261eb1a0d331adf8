package fido2_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockport/lockport/fido2"
)

// TestOpenOther opens what is no security key.
func TestOpenOther(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", filepath.Join(root, "null")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{"/file": fido2.ErrNotFIDO2, "/null": fido2.ErrNotFIDO2, "/none": fido2.ErrGone} {
		if _, err := (fido2.Hidraw{Root: root}).Open(t.Context(), path); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
