package eventlog

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sha1Of0 = "0000000000000000000000000000000000000000"

func TestSystemdLog(t *testing.T) {
	t.Parallel()
	text := "\n\x1e" + `{"pcr":15,"digests":[{"hashAlg":"sm3","digest":"?"},{"hashAlg":"sha1","digest":"` + sha1Of0 + `"}],` +
		`"content_type":"systemd","content":{"string":"cryptsetup:root:0f","eventType":"volume-key","more":[]},"recnum":7}` +
		"\n\x1e" + `{"nv_index":1,"digests":[],"content_type":"systemd","content":{}}` +
		"\n\x1e" + `{"pcr":1,"content_type":"cel","content":[1]}`
	got, err := ParseSystemd([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []Event{
		{PCR: 15, System: true, Digests: map[string][]byte{"sha1": make([]byte, 20)}, Data: []byte("cryptsetup:root:0f"), Kind: "volume-key"},
		{PCR: 1, System: true, Digests: map[string][]byte{}, Data: []byte("[1]"), Kind: "cel"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestBadSystemdLogs(t *testing.T) {
	t.Parallel()
	digests := func(list string) string { return "\x1e" + `{"pcr":1,"digests":[` + list + `]}` }
	one := `{"hashAlg":"sha1","digest":"` + sha1Of0 + `"}`
	for _, c := range []struct{ name, text, want string }{
		{"no separator", "{}", "does not begin with a record separator"},
		{"empty record", "\x1e{}\x1e\n", "event 1 at offset 4: unexpected end of JSON input"},
		{"two values", "\x1e{}{}", "event 0 at offset 1: invalid character '{' after top-level value"},
		{"PCR", "\x1e" + `{"pcr":24}`, "event 0 at offset 1: PCR 24"},
		{"negative PCR", "\x1e" + `{"pcr":-1}`, "event 0 at offset 1: PCR -1"},
		{"short digest", digests(`{"hashAlg":"sha256","digest":"00"}`), "event 0 at offset 1: digest of sha256 of 1 bytes, or a second one"},
		{"two digests", digests(one + "," + one), "event 0 at offset 1: digest of sha1 of 20 bytes, or a second one"},
		{"no hex", digests(`{"hashAlg":"sha1","digest":"x"}`), "event 0 at offset 1: digest of sha1: encoding/hex: invalid byte: U+0078 'x'"},
		{"content", "\x1e" + `{"pcr":1,"content_type":"systemd"}`, "event 0 at offset 1: content: unexpected end of JSON input"},
		{"too many", strings.Repeat("\x1e{}", maxEvents+1), "more than 65536 events"},
		{"too long", strings.Repeat(" ", maxLog+1), "more than 16777216 bytes"},
	} {
		events, err := ParseSystemd([]byte(c.text))
		if events != nil || err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, %v\nwant %s", c.name, events, err, c.want)
		}
	}
}

func TestReadWithoutLogs(t *testing.T) {
	t.Parallel()
	l, err := Read(t.TempDir())
	if l != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, %v", l, err)
	}
}

func TestReadOnlySystemd(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, root, systemdPath, vector(t, "ovmf-uki.measure.log"))
	l, err := Read(root)
	if err != nil || len(l.Events) != 5 || l.Events[0].String() != "phase enter-initrd" || l.Banks != nil {
		t.Errorf("%v, %v", l, err)
	}
}

func TestReadBroken(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{firmwarePath: "the firmware's log: event 0", systemdPath: "systemd's log: event 0"} {
		root := machine(t, "seabios")
		put(t, root, path, []byte("\x1ex"))
		if l, err := Read(root); l != nil || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, %v", path, l, err)
		}
	}
}

// A file that is not one, or too large, is not a file that is missing.
func TestReadUnreadable(t *testing.T) {
	t.Parallel()
	for _, path := range []string{firmwarePath, systemdPath} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
		if l, err := Read(root); l != nil || err == nil || errors.Is(err, fs.ErrNotExist) && path == firmwarePath {
			t.Errorf("%s: %v, %v", path, l, err)
		}
	}
	root := t.TempDir()
	put(t, root, firmwarePath, bytes.Repeat([]byte{0}, maxLog+1))
	if l, err := Read(root); l != nil || err == nil || err.Error() != "the firmware's log: more than 16777216 bytes" {
		t.Errorf("%v, %v", l, err)
	}
}
