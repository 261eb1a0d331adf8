package tpm2

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// nullCredential makes a credential with the null key by the original.
func nullCredential(t testing.TB, content []byte) []byte {
	t.Helper()
	program, err := exec.LookPath("systemd-creds")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("systemd-creds is not installed")
	}
	for _, key := range []string{"null", "tpm2-absent"} { // the name of before 256
		cmd := exec.Command(program, "encrypt", "--with-key="+key, "--name=pcrlock", "-", "-")
		cmd.Stdin = bytes.NewReader(content)
		if out, err := cmd.Output(); err == nil {
			return out
		}
	}
	t.Fatal("systemd-creds makes no credential with the null key")
	return nil
}

// TestCredential reads what the original has encrypted, and nothing else.
func TestCredential(t *testing.T) {
	t.Parallel()
	content := vector(t, "pcrlock.json")
	text := nullCredential(t, content)
	raw, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openCredential(raw); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes instead of %d, %v", len(got), len(content), err)
	}
	for n := range raw {
		if _, err := openCredential(raw[:n]); err == nil {
			t.Errorf("cut off after %d bytes it can be read", n)
		}
		broken := bytes.Clone(raw)
		broken[n] ^= 1
		if _, err := openCredential(broken); err == nil {
			t.Errorf("with byte %d changed it can be read", n)
		}
	}
	root := t.TempDir()
	dir := filepath.Join(root, "run/credentials/@encrypted")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"PCRLock.a.cred": raw, "pcrlock.b.cred": text, "other.cred": raw} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := PCRLockCredentials(root)
	if want := []string{filepath.Join(dir, "PCRLock.a.cred"), filepath.Join(dir, "pcrlock.b.cred")}; !slices.Equal(found, want) {
		t.Errorf("found %s", found)
	}
	for _, name := range found {
		// The policy is that of the token of this slot.
		if _, p, err := findPCRLock([]string{name}, findSample(t, "v257b", "1")); err != nil || p == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCredential(f *testing.F) {
	f.Add([]byte(nullKeyID))
	f.Add(append([]byte(nullKeyID), "\x20\x00\x00\x00\x01\x00\x00\x00\x0c\x00\x00\x00\x10\x00\x00\x00"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = openCredential(b)
		if out, err := withoutMetadata(b); err == nil && len(out) > len(b) {
			t.Error("more than there was")
		}
	})
}
