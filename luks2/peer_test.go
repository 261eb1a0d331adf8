//go:build linux

package luks2_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

const peerImage = 20 << 20

// quick are the options with which cryptsetup makes a cheap keyslot.
var quick = []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}

func blank(t testing.TB, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	return path
}

func openFile(t testing.TB, path string) (*luks2.File, *luks2.Header) {
	t.Helper()
	f, err := luks2.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, reopen(t, f)
}

// TestTheyFormat reads what luksFormat makes with each of its options.
func TestTheyFormat(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	for _, options := range [][]string{
		{"--luks2-metadata-size", "16k", "--luks2-keyslots-size", "512k"},
		{"--luks2-metadata-size", "32k", "--sector-size", "512"},
		{"--luks2-metadata-size", "64k", "--sector-size", "1024"},
		{"--luks2-metadata-size", "128k", "--sector-size", "2048"},
		{"--luks2-metadata-size", "256k", "--sector-size", "4096"},
		{"--luks2-metadata-size", "512k"},
		{"--luks2-metadata-size", "1m"},
		{"--luks2-metadata-size", "2m"},
		{"--luks2-metadata-size", "4m", "--luks2-keyslots-size", "4m"},
		{"--hash", "sha1"},
		{"--hash", "sha512"},
		{"--hash", "SHA384"},
		{"--hash", "sha3-256"},
		{"--key-size", "256"},
		{"--cipher", "aes-cbc-essiv:sha256", "--key-size", "256"},
		{"--cipher", "aes-cbc-essiv:sha256", "--key-size", "128", "--luks2-keyslots-size", "1m"},
		{"--keyslot-cipher", "aes-cbc-essiv:sha256", "--keyslot-key-size", "256"},
		{"--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1"},
		{"--pbkdf", "argon2i", "--pbkdf-force-iterations", "5", "--pbkdf-memory", "1000", "--pbkdf-parallel", "2"},
		{"--label", "a label", "--subsystem", "sub", "--uuid", "6c5a1c3e-6b1c-4a11-9d7e-1f2e3d4c5b6a"},
		{"--offset", "40960"},
	} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			t.Parallel()
			path := blank(t, peerImage+1<<20)
			args := append([]string{"luksFormat", "--type", "luks2", path, "-"}, options...)
			if !slices.Contains(options, "--pbkdf") {
				args = append(args, quick...)
			}
			// Less to fill with noise; TestFormatDefaults has the default.
			if !slices.Contains(options, "--luks2-keyslots-size") && !slices.Contains(options, "--offset") {
				args = append(args, "--luks2-keyslots-size", "512k")
			}
			mustCryptsetup(t, "pass", args...)
			_, h := openFile(t, path)
			if err := errors.Join(h.Damage(), weOpen(t, h, -1, "pass")); err != nil {
				t.Error(err)
			}
			sameDump(t, h, path)
			if err := weOpen(t, h, 0, "wrong"); !errors.Is(err, luks2.ErrPassphrase) {
				t.Errorf("wrong passphrase: %v", err)
			}
		})
	}
}

// sameDump compares the metadata that we read with what cryptsetup reads.
func sameDump(t testing.TB, h *luks2.Header, path string) {
	t.Helper()
	var ours, theirs any
	dump := mustCryptsetup(t, "", "luksDump", "--dump-json-metadata", path)
	if err := errors.Join(json.Unmarshal(h.JSON(), &ours), json.Unmarshal([]byte(dump), &theirs)); err != nil {
		t.Fatal(err)
	}
	// Not with cmp, whose time doubles with each level of a nested array.
	if !reflect.DeepEqual(theirs, ours) {
		t.Errorf("cryptsetup reads\n%s\nwe read\n%s", dump, h.JSON())
	}
	text := mustCryptsetup(t, "", "luksDump", path)
	for _, line := range []string{"Epoch:\t" + strconv.FormatUint(h.SeqID(), 10), "UUID:\t" + h.UUID(), "Label:\t" + h.Label()} {
		if squeezed := strings.Join(strings.Fields(line), " "); !strings.Contains(strings.Join(strings.Fields(text), " "), squeezed) {
			t.Errorf("luksDump does not say %q", squeezed)
		}
	}
}

// TestWeFormat shows what we format to cryptsetup.
func TestWeFormat(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	for i, o := range []luks2.FormatOptions{
		{},
		{KDF: cheap, Label: "a label", Subsystem: "sub"},
		{KDF: luks2.KDF{Type: luks2.Argon2i, Time: 4, Memory: 64, CPUs: 2}, SectorSize: 4096},
		{KeySize: 32, HeaderSize: 32 << 10}, {HeaderSize: 64 << 10}, {HeaderSize: 128 << 10}, {HeaderSize: 256 << 10},
		{HeaderSize: 512 << 10}, {HeaderSize: 1 << 20}, {HeaderSize: 2 << 20}, {HeaderSize: 4 << 20, DataOffset: 9 << 20},
		{Cipher: "aes-cbc-essiv:sha256"}, {Cipher: "aes-cbc-essiv:sha256", KeySize: 16, DataOffset: 1 << 20},
		{KDF: luks2.KDF{Type: luks2.PBKDF2, Hash: "sha1", Iterations: 1234}},
		{KDF: luks2.KDF{Type: luks2.PBKDF2, Hash: "sha3-512", Iterations: 1000}},
		{Note: luks2.Note{Name: "name <&> \"ü\"", Created: time.Unix(1e9, 0), Method: "passphrase"}},
	} {
		t.Run(fmt.Sprintf("%d %s %d %s", i, o.Cipher, o.HeaderSize, o.KDF.Type), func(t *testing.T) {
			t.Parallel()
			path := blank(t, peerImage)
			f, err := luks2.OpenFile(path, false)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if o.KDF.Type == "" {
				o.KDF = luks2.Minimal()
			}
			if o.DataOffset == 0 && i > 0 {
				o.DataOffset = max(1<<20, 4*o.HeaderSize)
			}
			o.Fast = true
			h, key, err := luks2.Format(t.Context(), f, text(t, "pass"), o)
			if err != nil {
				t.Fatal(err)
			}
			wiped(t, key)
			sameDump(t, h, path)
			if err := errors.Join(theyOpen(t, path, -1, "pass"), theyOpen(t, path, 0, "pass")); err != nil {
				t.Error(err)
			}
			if theyOpen(t, path, -1, "wrong") == nil {
				t.Error("cryptsetup opens it with a wrong passphrase")
			}
			master := filepath.Join(t.TempDir(), "key")
			mustCryptsetup(t, "pass", "luksDump", "--dump-volume-key", "--volume-key-file", master, "--key-file", "-", path)
			if b, err := os.ReadFile(master); err != nil || !bytes.Equal(b, key.Reveal()) {
				t.Errorf("cryptsetup finds another volume key, %v", err)
			}
			if reopen(t, f).SeqID() != h.SeqID() {
				t.Error("cryptsetup had something to mend")
			}
		})
	}
}

// TestFormatDefaults compares a new volume with that of a plain luksFormat.
func TestFormatDefaults(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	theirs, ours := blank(t, peerImage), blank(t, peerImage)
	mustCryptsetup(t, "pass", append([]string{"luksFormat", "--type", "luks2", theirs, "-"}, quick...)...)
	_, a := openFile(t, theirs)
	f, err := luks2.OpenFile(ours, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, key, err := luks2.Format(t.Context(), f, text(t, "pass"), luks2.FormatOptions{SectorSize: f.SectorSize(), Fast: true,
		KDF: luks2.KDF{Type: luks2.PBKDF2, Hash: "sha256", Iterations: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	wiped(t, key)
	normal := func(h *luks2.Header) (o any) {
		if err := json.Unmarshal(h.JSON(), &o); err != nil {
			t.Fatal(err)
		}
		for _, path := range [][]string{{"keyslots", "0", "kdf"}, {"digests", "0"}} {
			m := within(o.(object), path)
			m["salt"], m["digest"] = "random", "random"
			if path[0] == "digests" {
				m["iterations"] = "measured"
			}
		}
		return o
	}
	if diff := cmp.Diff(normal(a), normal(b)); diff != "" {
		t.Errorf("defaults differ (-theirs +ours):\n%s", diff)
	}
	if a.Size() != b.Size() {
		t.Errorf("header of %d bytes, theirs has %d", b.Size(), a.Size())
	}
}

// TestDetached has the header in a file of its own, made by either.
func TestDetached(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	data, header := blank(t, 4<<20), filepath.Join(t.TempDir(), "header")
	mustCryptsetup(t, "pass", append([]string{"luksFormat", "--type", "luks2", "--header", header, data, "-"}, quick...)...)
	_, h := openFile(t, header)
	if s, err := h.Segment(); err != nil || weOpen(t, h, -1, "pass") != nil {
		t.Errorf("segment at %d, %v", s.Offset, err)
	}
	ours := blank(t, 16<<20)
	f, err := luks2.OpenFile(ours, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, key, err := luks2.Format(t.Context(), f, text(t, "pass"), luks2.FormatOptions{Detached: true, KDF: cheap, Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	wiped(t, key)
	if s, err := h.Segment(); err != nil || s.Offset != 0 {
		t.Errorf("segment at %d, %v", s.Offset, err)
	}
	if _, err := cryptsetup(t, "pass", "open", "--test-passphrase", "--key-file", "-", "--header", ours, data); err != nil {
		t.Error(err)
	}
}

// TestTheyEdit has cryptsetup change what we made, and reads it after each step.
func TestTheyEdit(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	path := blank(t, peerImage)
	f, err := luks2.OpenFile(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	note := luks2.Note{Name: "mine", Created: time.Unix(1e9, 0).UTC(), Method: "passphrase"}
	_, key, err := luks2.Format(t.Context(), f, text(t, "first"), luks2.FormatOptions{KDF: cheap, Fast: true, Note: note})
	if err != nil {
		t.Fatal(err)
	}
	wiped(t, key)
	second := filepath.Join(t.TempDir(), "second")
	if err := os.WriteFile(second, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	step := func(input string, check func(h *luks2.Header) bool, args ...string) {
		t.Helper()
		mustCryptsetup(t, input, args...)
		h := reopen(t, f)
		if err := errors.Join(h.Damage(), weOpen(t, h, 0, "first")); err != nil || !check(h) {
			t.Errorf("after %s: %v\n%s", args[0], err, h.JSON())
		}
		if k, err := h.Keyslot(0); err != nil || k.Note != note {
			t.Errorf("after %s: note %+v, %v", args[0], k.Note, err)
		}
		sameDump(t, h, path)
	}
	add := func(args ...string) []string {
		return append(append([]string{"luksAddKey", path, second}, args...), quick...)
	}
	step("first", func(h *luks2.Header) bool { return weOpen(t, h, 1, "second") == nil }, add("--key-file", "-")...)
	step("first", func(h *luks2.Header) bool { return weOpen(t, h, 7, "second") == nil }, add("--key-file", "-", "--new-key-slot", "7")...)
	step("first", func(h *luks2.Header) bool {
		_, err := h.Keyslot(3)
		return err == nil && !h.Bound(3) && weOpen(t, h, 3, "second") == nil && len(h.Digests()) == 2
	}, add("--unbound", "--key-slot", "3", "--key-size", "384")...)
	step("", func(h *luks2.Header) bool { return h.Label() == "L" && h.Subsystem() == "S" }, "config", path, "--label", "L", "--subsystem", "S")
	step("", func(h *luks2.Header) bool { k, _ := h.Keyslot(1); return k.Priority == luks2.PriorityPrefer },
		"config", path, "--key-slot", "1", "--priority", "prefer")
	step("", func(h *luks2.Header) bool {
		k, _ := h.Keyslot(7)
		return k.Priority == luks2.PriorityIgnore
	}, "config", path, "--key-slot", "7", "--priority", "ignore")
	step("", func(h *luks2.Header) bool {
		name, ok := h.Tokens()[0].KeyringDescription()
		return ok && name == "desc"
	}, "token", "add", "--key-description", "desc", "--key-slot", "1", path)
	step(`{"type":"mine","keyslots":["1"],"a/b":{"ü":[1,"\u0001",null]}}`, func(h *luks2.Header) bool {
		token, err := h.Token(4)
		return err == nil && token.Type == "mine" && slices.Equal(token.Keyslots, []int{1})
	}, "token", "import", "--token-id", "4", path)
	step("first", func(h *luks2.Header) bool { return errors.Is(weOpen(t, h, 1, "second"), luks2.ErrNoKeyslot) },
		"luksKillSlot", "--key-file", "-", path, "1")
	step("", func(h *luks2.Header) bool { token, err := h.Token(4); return err == nil && len(token.Keyslots) == 0 },
		"token", "remove", "--token-id", "0", path)
	// Ignored slots are not found by their passphrase.
	step("", func(h *luks2.Header) bool { return weOpen(t, h, -1, "second") == nil },
		"config", path, "--key-slot", "7", "--priority", "normal")
	step("second", func(h *luks2.Header) bool { _, err := h.Keyslot(7); return err != nil },
		"luksRemoveKey", "--key-file", "-", path)
	step("", func(h *luks2.Header) bool { return h.UUID() == "6c5a1c3e-6b1c-4a11-9d7e-1f2e3d4c5b6a" },
		"luksUUID", "--uuid", "6c5a1c3e-6b1c-4a11-9d7e-1f2e3d4c5b6a", path)
}

// TestWeEdit changes what cryptsetup made, and shows it each step.
func TestWeEdit(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	path := blank(t, peerImage)
	mustCryptsetup(t, "first", append([]string{"luksFormat", "--type", "luks2", path, "-"}, quick...)...)
	f, h := openFile(t, path)
	key, err := h.VolumeKey(t.Context(), 0, text(t, "first"))
	if err != nil {
		t.Fatal(err)
	}
	wiped(t, key)
	other := wiped(t, secret.Random(48))
	step := func(name string, change func(h *luks2.Header) error, check func() error) {
		t.Helper()
		h := reopen(t, f)
		if err := errors.Join(change(h), h.Commit(t.Context())); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := errors.Join(theyOpen(t, path, 0, "first"), check()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		again := reopen(t, f)
		if again.Damage() != nil || again.SeqID() != h.SeqID() {
			t.Errorf("%s: cryptsetup had something to mend: %v", name, again.Damage())
		}
		sameDump(t, h, path)
	}
	says := func(want string) func() error {
		return func() error {
			if dump := strings.Join(strings.Fields(mustCryptsetup(t, "", "luksDump", path)), " "); !strings.Contains(dump, want) {
				return fmt.Errorf("luksDump does not say %q:\n%s", want, dump)
			}
			return nil
		}
	}
	opens := func(slot int, pass string) func() error { return func() error { return theyOpen(t, path, slot, pass) } }
	add := func(k *secret.Bytes, pass string, o luks2.SlotOptions) func(h *luks2.Header) error {
		return func(h *luks2.Header) error { _, err := h.AddSlot(t.Context(), k, text(t, pass), o); return err }
	}
	step("add", add(key, "second", luks2.SlotOptions{ID: luks2.AnySlot, KDF: cheap, Note: luks2.Note{Name: "n", Method: "m"}}), opens(1, "second"))
	step("add at 31", add(key, "third", luks2.SlotOptions{ID: 31, KDF: luks2.Minimal(), Priority: luks2.PriorityPrefer}), opens(31, "third"))
	step("add with CBC", add(key, "fourth", luks2.SlotOptions{ID: luks2.AnySlot, KDF: cheap, Encryption: "aes-cbc-essiv:sha256", KeySize: 16}), opens(2, "fourth"))
	step("add unbound", add(other, "foreign", luks2.SlotOptions{ID: luks2.AnySlot, KDF: cheap, Unbound: true}), opens(3, "foreign"))
	step("name", func(h *luks2.Header) error { return h.SetNote(0, luks2.Note{Name: "Käthe's"}) }, says("0: luks2"))
	step("prefer", func(h *luks2.Header) error { return h.SetPriority(1, luks2.PriorityPrefer) }, says("Priority: preferred"))
	step("ignore", func(h *luks2.Header) error { return h.SetPriority(1, luks2.PriorityIgnore) }, says("Priority: ignored"))
	step("normal", func(h *luks2.Header) error { return h.SetPriority(1, luks2.PriorityNormal) }, says("1: luks2 Key: 512 bits Priority: normal"))
	step("label", func(h *luks2.Header) error { return errors.Join(h.SetLabel("ein Etikett"), h.SetSubsystem("sub")) }, says("Label: ein Etikett Subsystem: sub"))
	step("flags", func(h *luks2.Header) error { return h.SetFlags("allow-discards", "no-read-workqueue") }, says("Flags: allow-discards no-read-workqueue"))
	step("keyring token", func(h *luks2.Header) error { _, err := h.AddToken(luks2.KeyringToken("desc", 0, 1)); return err }, says("0: luks2-keyring Key description: desc"))
	const odd = `{"type":"odd","keyslots":["2"],"a/b":{"\u00fc<&>":[1e3,"\u0001\ud83d\ude00",null,true]}}`
	step("odd token", func(h *luks2.Header) error { return h.SetToken(9, json.RawMessage(odd)) }, func() error {
		var want, got any
		if err := errors.Join(json.Unmarshal([]byte(odd), &want),
			json.Unmarshal([]byte(mustCryptsetup(t, "", "token", "export", "--token-id", "9", path)), &got)); err != nil {
			return err
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
	step("deep token", func(h *luks2.Header) error {
		return h.SetToken(10, json.RawMessage(`{"type":"deep","keyslots":[],"a":`+nested(28)+`}`))
	}, says("10: deep"))
	if err := reopen(t, f).SetToken(11, json.RawMessage(`{"type":"deep","keyslots":[],"a":`+nested(29)+`}`)); err == nil {
		t.Error("a token was taken that is too deep for cryptsetup")
	}
	step("fill", func(h *luks2.Header) error {
		token := func(n int) []byte {
			return fmt.Appendf(nil, `{"type":"fill","keyslots":[],"a":%q}`, strings.Repeat("x", n))
		}
		err := h.SetToken(11, token(0))
		return errors.Join(err, h.SetToken(11, token(12287-len(h.JSON()))))
	}, says("11: fill"))
	step("empty", func(h *luks2.Header) error { return errors.Join(h.RemoveToken(11), h.RemoveToken(10)) }, says("9: odd"))
	step("remove", func(h *luks2.Header) error { return errors.Join(h.RemoveSlot(1), h.RemoveSlot(2)) }, func() error {
		if theyOpen(t, path, -1, "second") == nil || theyOpen(t, path, -1, "fourth") == nil {
			return errors.New("a removed keyslot opens")
		}
		return opens(31, "third")()
	})
	step("remove unbound", func(h *luks2.Header) error { return h.RemoveSlot(3) }, opens(31, "third"))
}

// TestBackups moves header backups between the two programs.
func TestBackups(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	path, dir := blank(t, peerImage), t.TempDir()
	mustCryptsetup(t, "first", append([]string{"luksFormat", "--type", "luks2", path, "-"}, quick...)...)
	f, h := openFile(t, path)
	theirs, ours := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
	mustCryptsetup(t, "", "luksHeaderBackup", path, "--header-backup-file", theirs)
	var b bytes.Buffer
	if err := h.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(theirs); err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("the backups of the same header differ: %d bytes, theirs has %d, %v", b.Len(), len(want), err)
	}
	if err := os.WriteFile(ours, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	change := func() {
		t.Helper()
		second := filepath.Join(dir, "second")
		if err := os.WriteFile(second, []byte("second"), 0o600); err != nil {
			t.Fatal(err)
		}
		mustCryptsetup(t, "first", append([]string{"luksChangeKey", path, "--key-file", "-", second}, quick...)...)
		if theyOpen(t, path, -1, "first") == nil || weOpen(t, reopen(t, f), -1, "second") != nil {
			t.Fatal("the key was not changed")
		}
	}
	change()
	in, err := os.Open(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := luks2.Restore(t.Context(), f, in, int64(b.Len()), luks2.RestoreOptions{}); err != nil {
		t.Error(err)
	}
	both := func() {
		t.Helper()
		h := reopen(t, f)
		if err := errors.Join(theyOpen(t, path, -1, "first"), weOpen(t, h, -1, "first"), h.Damage()); err != nil {
			t.Error(err)
		}
		if theyOpen(t, path, -1, "second") == nil || weOpen(t, h, -1, "second") == nil {
			t.Error("a passphrase from after the backup opens")
		}
	}
	both()
	change()
	mustCryptsetup(t, "", "luksHeaderRestore", path, "--header-backup-file", ours)
	both()
}

// TestMending has cryptsetup mend a copy of a header of ours, and the other way
// round.
func TestMending(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	for _, at := range []int64{3000, 16<<10 + 3000} {
		path := blank(t, peerImage)
		mustCryptsetup(t, "first", append([]string{"luksFormat", "--type", "luks2", path, "-"}, quick...)...)
		f, h := openFile(t, path)
		seq := h.SeqID()
		for range 2 {
			if _, err := f.WriteAt([]byte("damage"), at); err != nil {
				t.Fatal(err)
			}
			h := reopen(t, f)
			if h.Damage() == nil {
				t.Error("the damage is not seen")
			}
			if err := h.Repair(t.Context()); err != nil {
				t.Error(err)
			}
			if err := theyOpen(t, path, -1, "first"); err != nil {
				t.Error(err)
			}
			if h := reopen(t, f); h.SeqID() != seq || h.Damage() != nil {
				t.Errorf("sequence %d, was %d: %v", h.SeqID(), seq, h.Damage())
			}
			if _, err := f.WriteAt([]byte("damage"), at); err != nil {
				t.Fatal(err)
			}
			if err := theyOpen(t, path, -1, "first"); err != nil {
				t.Error(err)
			}
			if h := reopen(t, f); h.SeqID() != seq || h.Damage() != nil {
				t.Errorf("mended by cryptsetup: sequence %d, was %d: %v", h.SeqID(), seq, h.Damage())
			}
		}
	}
}

// TestRandomSequences lets both work on one volume, in any order.
func TestRandomSequences(t *testing.T) {
	t.Parallel()
	peer(t, "cryptsetup")
	rounds, steps := 2, 8
	if os.Getenv("LOCKPORT_LONG") != "" {
		rounds, steps = 20, 60
	}
	for range rounds {
		seed := rand.Uint64()
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			newSequence(t, rand.New(rand.NewPCG(seed, 1))).play(steps)
		})
	}
}

// A sequence is one volume and what should be true of it.
type sequence struct {
	*testing.T
	random *rand.Rand
	path   string
	file   *luks2.File
	slots  map[int]string // passphrase by keyslot
	gone   []string       // passphrases that must not open any more
	label  string
	tokens map[int]bool
	count  int
	log    []string
}

func newSequence(t *testing.T, random *rand.Rand) *sequence {
	t.Helper()
	q := &sequence{T: t, random: random, path: blank(t, 4<<20), slots: map[int]string{0: "pass-0"}, tokens: map[int]bool{}}
	f, err := luks2.OpenFile(q.path, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	q.file = f
	if random.IntN(2) == 0 {
		mustCryptsetup(t, "pass-0", append([]string{"luksFormat", "--type", "luks2", "--key-size", "256", "--luks2-keyslots-size", "1m", q.path, "-"}, quick...)...)
		return q
	}
	_, key, err := luks2.Format(t.Context(), f, text(t, "pass-0"), luks2.FormatOptions{KeySize: 32, DataOffset: 1 << 20, KDF: luks2.Minimal(), Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	key.Wipe()
	return q
}

func (q *sequence) play(steps int) {
	acts := []struct {
		name string
		do   func(ours bool) error
	}{{"add", q.add}, {"add", q.add}, {"remove", q.remove}, {"label", q.setLabel}, {"token", q.token}, {"priority", q.priority}, {"damage", q.damage}}
	for range steps {
		act, ours := acts[q.random.IntN(len(acts))], q.random.IntN(2) == 0
		q.log = append(q.log, fmt.Sprintf("%s by us: %t", act.name, ours))
		if err := errors.Join(act.do(ours), q.check()); err != nil {
			q.Fatalf("%v\nafter %s", err, strings.Join(q.log, "; "))
		}
	}
}

// check wants every passphrase to open in both, no other one, and both copies
// of the header valid.
func (q *sequence) check() error {
	h := reopen(q, q.file)
	errs := []error{h.Damage()}
	for slot, pass := range q.slots {
		errs = append(errs, weOpen(q, h, slot, pass))
	}
	for _, slot := range q.pick(2) {
		errs = append(errs, theyOpen(q, q.path, slot, q.slots[slot]))
	}
	if len(q.gone) > 0 {
		last := q.gone[len(q.gone)-1]
		if weOpen(q, h, -1, last) == nil || theyOpen(q, q.path, -1, last) == nil {
			errs = append(errs, fmt.Errorf("%s opens, which was removed", last))
		}
	}
	if len(h.Keyslots()) != len(q.slots) || len(h.Tokens()) != len(q.tokens) || h.Label() != q.label {
		errs = append(errs, fmt.Errorf("%d keyslots, %d tokens, label %q", len(h.Keyslots()), len(h.Tokens()), h.Label()))
	}
	sameDump(q, h, q.path)
	return errors.Join(errs...)
}

// pick returns up to n keyslots.
func (q *sequence) pick(n int) []int {
	var ids []int
	for id := range q.slots {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	q.random.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:min(n, len(ids))]
}

func (q *sequence) edit(change func(h *luks2.Header) error) error {
	h := reopen(q, q.file)
	if err := change(h); err != nil {
		return err
	}
	return h.Commit(q.Context())
}

func (q *sequence) add(ours bool) error {
	if len(q.slots) == 6 {
		return q.remove(ours)
	}
	q.count++
	with, pass := q.slots[q.pick(1)[0]], fmt.Sprintf("pass-%d", q.count)
	id := 0
	for q.slots[id] != "" {
		id++
	}
	q.slots[id] = pass
	if !ours {
		file := filepath.Join(q.TempDir(), pass)
		if err := os.WriteFile(file, []byte(pass), 0o600); err != nil {
			return err
		}
		_, err := cryptsetup(q, with, append([]string{"luksAddKey", "--key-file", "-", q.path, file}, quick...)...)
		return err
	}
	return q.edit(func(h *luks2.Header) error {
		_, key, err := h.Find(q.Context(), text(q, with))
		if err != nil {
			return err
		}
		defer key.Wipe()
		got, err := h.AddSlot(q.Context(), key, text(q, pass), luks2.SlotOptions{ID: luks2.AnySlot, KDF: cheap})
		if err == nil && got != id {
			err = fmt.Errorf("keyslot %d instead of %d", got, id)
		}
		return err
	})
}

func (q *sequence) remove(ours bool) error {
	if len(q.slots) == 1 {
		return nil
	}
	pair := q.pick(2)
	victim, with := pair[0], q.slots[pair[1]]
	q.gone = append(q.gone, q.slots[victim])
	delete(q.slots, victim)
	if ours {
		return q.edit(func(h *luks2.Header) error { return h.RemoveSlot(victim) })
	}
	_, err := cryptsetup(q, with, "luksKillSlot", "--key-file", "-", q.path, strconv.Itoa(victim))
	return err
}

func (q *sequence) setLabel(ours bool) error {
	q.count++
	q.label = fmt.Sprintf("label-%d", q.count)
	if ours {
		return q.edit(func(h *luks2.Header) error { return h.SetLabel(q.label) })
	}
	_, err := cryptsetup(q, "", "config", "--label", q.label, q.path)
	return err
}

func (q *sequence) token(ours bool) error {
	id, slot := q.random.IntN(4), q.pick(1)[0]
	if q.tokens[id] {
		delete(q.tokens, id)
		if ours {
			return q.edit(func(h *luks2.Header) error { return h.RemoveToken(id) })
		}
		_, err := cryptsetup(q, "", "token", "remove", "--token-id", strconv.Itoa(id), q.path)
		return err
	}
	q.tokens[id] = true
	text := fmt.Sprintf(`{"type":"t","keyslots":["%d"],"x":{"y":[%d]}}`, slot, q.random.Int())
	if ours {
		return q.edit(func(h *luks2.Header) error { return h.SetToken(id, json.RawMessage(text)) })
	}
	_, err := cryptsetup(q, text, "token", "import", "--token-id", strconv.Itoa(id), q.path)
	return err
}

func (q *sequence) priority(ours bool) error {
	slot := q.pick(1)[0]
	if ours {
		return q.edit(func(h *luks2.Header) error { return h.SetPriority(slot, luks2.PriorityPrefer) })
	}
	_, err := cryptsetup(q, "", "config", "--key-slot", strconv.Itoa(slot), "--priority", "normal", q.path)
	return err
}

// damage breaks one copy, which either mends.
func (q *sequence) damage(ours bool) error {
	at := int64(q.random.IntN(2))<<14 + int64(q.random.IntN(16000)/500*500)
	b := make([]byte, 1)
	if _, err := q.file.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 0x10
	if _, err := q.file.WriteAt(b, at); err != nil {
		return err
	}
	if ours {
		return reopen(q, q.file).Repair(q.Context())
	}
	_, err := cryptsetup(q, "", "luksDump", q.path)
	return err
}
