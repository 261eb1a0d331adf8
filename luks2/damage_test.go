package luks2_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
)

type list = []any
type object = map[string]any

func nested(depth int) string {
	return strings.Repeat("[", depth) + "1" + strings.Repeat("]", depth)
}

func insert(member string) change {
	return change{text: func(s string) string { return "{" + member + "," + s[1:] }}
}

func segment(offset, size string, more ...any) object {
	o := object{"type": "crypt", "offset": offset, "size": size, "iv_tweak": "0",
		"encryption": "aes-xts-plain64", "sector_size": 512}
	for i := 0; i < len(more); i += 2 {
		o[more[i].(string)] = more[i+1]
	}
	return o
}

// brokenRules has one vector for every rule of the strict reader: a valid
// header that breaks just this one, with right checksums.
var brokenRules = []struct {
	name string
	change
	want string
}{
	// The text.
	{"leading blank", change{text: func(s string) string { return " " + s }}, "does not begin with an object"},
	{"no text", change{text: func(string) string { return "" }}, "does not begin with an object"},
	{"an array", change{text: func(string) string { return "[]" }}, "does not begin with an object"},
	{"cut short", change{text: func(s string) string { return s[:len(s)-1] }}, "EOF"},
	{"second object", change{text: func(s string) string { return s + "{}" }}, "more text after the end"},
	{"text behind", change{text: func(s string) string { return s + " x" }}, "more text after the end"},
	{"bytes behind", change{bin: func(b []byte) { b[len(b)-1] = '}' }}, "something stands behind the metadata"},
	{"no end", change{bin: func(b []byte) {
		text := b[fixedSize:]
		for i := bytes.IndexByte(text, 0); i < len(text); i++ {
			text[i] = ' '
		}
	}}, "does not end inside its area"},
	{"not UTF-8", insert("\"a\":\"\xff\""), "not UTF-8"},
	{"member twice", insert(`"config":{}`), `member "config" is given twice`},
	{"member twice, escaped", insert(`"\u0063onfig":{}`), `member "config" is given twice`},
	{"inner member twice", change{text: func(s string) string {
		return strings.Replace(s, `"key_size":16`, `"key_size":16,"key_size":16`, 1)
	}}, `member "key_size" is given twice`},
	{"NUL in a name", insert(`"a\u0000b":1`), "contains a NUL"},
	{"33 levels", insert(`"a":` + nested(31)), "nested deeper than 32"},
	{"no JSON", insert(`"a" 1`), "invalid character"},
	{"comma at the end", insert(`"a":[1,]`), "invalid character"},
	{"wrong bracket", insert(`"a":[1}`), "invalid character"},
	{"bad number", insert(`"a":01`), "invalid character"},

	// The binary header.
	{"version 1", poke(6, "\x00\x01"), "it is LUKS1"},
	{"version 3", poke(6, "\x00\x03"), "version 3"},
	{"position", poke(positionAt+7, "\x07"), "says that it stands at"},
	{"size not of the format", poke(8, "\x00\x00\x00\x00\x00\x00\x50\x00"), "header size 20480 is not one of the format"},
	{"size huge", poke(8, "\x80\x00\x00\x00\x00\x00\x40\x00"), "is not one of the format"},
	{"UUID empty", poke(uuidAt, "\x00"), `UUID "" is not in canonical form`},
	{"UUID short", poke(uuidAt+35, "\x00"), "is not in canonical form"},
	{"UUID long", poke(uuidAt+36, "a"), "is not in canonical form"},
	{"UUID odd", poke(uuidAt, "../"), "is not in canonical form"},
	{"UUID dashes", poke(uuidAt+8, "a"), "is not in canonical form"},
	{"checksum unknown", poke(sumNameAt, "crc32\x00\x00"), `hash "crc32"`},

	// config
	{"no config", drop("config"), "config: is missing"},
	{"config no object", put(list{}, "config"), "config: is not an object"},
	{"no json_size", drop("config", "json_size"), "config.json_size: is missing"},
	{"json_size other", put("8192", "config", "json_size"), "config.json_size: 8192 does not fit"},
	{"json_size number", put(12288, "config", "json_size"), "config.json_size: is not a string"},
	{"keyslots_size odd", put("196609", "config", "keyslots_size"), "config.keyslots_size: 196609 is not a multiple"},
	{"keyslots_size too large", put("134221824", "config", "keyslots_size"), "config.keyslots_size: 134221824 is over"},
	{"keyslots_size negative", put("-4096", "config", "keyslots_size"), "config.keyslots_size: is not a decimal"},
	{"keyslots_size with zeros", put("0196608", "config", "keyslots_size"), "config.keyslots_size: is not a decimal"},
	{"keyslots_size of 20 digits", put("99999999999999999999", "config", "keyslots_size"), "config.keyslots_size: is not a decimal"},
	{"keyslots_size of 64 bits", put("9223372036854775808", "config", "keyslots_size"), "config.keyslots_size: is not a decimal"},
	{"keyslots_size too small", put("65536", "config", "keyslots_size"), "keyslots.1.area: lies outside"},
	{"flags", put(object{}, "config", "flags"), "config.flags: is not an array of strings"},
	{"flags null", put(nil, "config", "flags"), "config.flags: is not an array of strings"},
	{"requirements", put(list{}, "config", "requirements"), "config.requirements: is not an object"},
	{"mandatory", put(object{"mandatory": list{1}}, "config", "requirements"), "config.requirements.mandatory: is not an array"},

	// keyslots
	{"no keyslots", drop("keyslots"), "keyslots: is missing"},
	{"keyslot 32", put(object{}, "keyslots", "32"), "keyslots.32: is not a number below 32"},
	{"keyslot 01", put(object{}, "keyslots", "01"), "keyslots.01: is not a number below 32"},
	{"keyslot name", put(object{}, "keyslots", "a"), "keyslots.a: is not a number"},
	{"keyslot no object", put("x", "keyslots", "1"), "keyslots.1: is not an object"},
	{"keyslot type missing", drop("keyslots", "1", "type"), "keyslots.1.type: is missing"},
	{"keyslot type null", put(nil, "keyslots", "1", "type"), "keyslots.1.type: is not a string"},
	{"key size missing", drop("keyslots", "1", "key_size"), "keyslots.1.key_size: is missing"},
	{"key size 0", put(0, "keyslots", "1", "key_size"), "keyslots.1.key_size: 0 is out of range"},
	{"key size negative", put(-1, "keyslots", "1", "key_size"), "keyslots.1.key_size: -1 is out of range"},
	{"key size 513", put(513, "keyslots", "1", "key_size"), "keyslots.1.key_size: 513 is out of range"},
	{"key size 2^31", put(int64(1<<31), "keyslots", "1", "key_size"), "keyslots.1.key_size: 2147483648 is out of range"},
	{"key size fraction", put(32.5, "keyslots", "1", "key_size"), "keyslots.1.key_size: is not an integer"},
	{"key size string", put("32", "keyslots", "1", "key_size"), "keyslots.1.key_size: is not an integer"},
	{"priority 3", put(3, "keyslots", "1", "priority"), "keyslots.1.priority: 3 is unknown"},
	{"priority string", put("1", "keyslots", "1", "priority"), "keyslots.1.priority: is not an integer"},
	{"no area", drop("keyslots", "1", "area"), "keyslots.1.area: is missing"},
	{"area type", put("datashift", "keyslots", "1", "area", "type"), `keyslots.1.area.type: "datashift" is unknown`},
	{"area encryption", drop("keyslots", "1", "area", "encryption"), "keyslots.1.area.encryption: is missing"},
	{"area key size 0", put(0, "keyslots", "1", "area", "key_size"), "keyslots.1.area.key_size: 0 is out of range"},
	{"area offset odd", put("98305", "keyslots", "1", "area", "offset"), "keyslots.1.area.offset: 98305 is not a multiple of 4096"},
	{"area size odd", put("65537", "keyslots", "1", "area", "size"), "keyslots.1.area.size: 65537 is not a multiple of 4096"},
	{"area size small", put("61440", "keyslots", "1", "area", "size"), "keyslots.1.area.size: 61440 is too small"},
	{"area in the header", put("28672", "keyslots", "0", "area", "offset"), "keyslots.0.area: lies outside"},
	{"area at 0", put("0", "keyslots", "0", "area", "offset"), "keyslots.0.area: lies outside"},
	{"area behind the end", put("167936", "keyslots", "1", "area", "offset"), "keyslots.1.area: lies outside"},
	{"area far away", put("9223372036854771712", "keyslots", "1", "area", "offset"), "keyslots.1.area: lies outside"},
	{"area of no size", put(object{"type": "z", "key_size": 0, "area": object{"offset": "32768", "size": "0"}}, "keyslots", "2"), "keyslots.2.area: lies outside"},
	{"areas overlap", put("94208", "keyslots", "1", "area", "offset"), "keyslots.1.area: overlaps that of keyslot 0"},
	{"area inside another of unknown type", put(object{"type": "z", "key_size": 0, "area": object{"offset": "36864", "size": "4096"}}, "keyslots", "2"), "keyslots.2.area: overlaps that of keyslot 0"},
	{"no af", drop("keyslots", "1", "af"), "keyslots.1.af: is missing"},
	{"af type", put("none", "keyslots", "1", "af", "type"), `keyslots.1.af.type: "none" is unknown`},
	{"af stripes", put(4001, "keyslots", "1", "af", "stripes"), "keyslots.1.af.stripes: 4001 is not 4000"},
	{"no kdf", drop("keyslots", "1", "kdf"), "keyslots.1.kdf: is missing"},
	{"kdf type", put("scrypt", "keyslots", "1", "kdf", "type"), `keyslots.1.kdf.type: "scrypt" is unknown`},
	{"kdf salt short", put("AAAA", "keyslots", "1", "kdf", "salt"), "keyslots.1.kdf.salt: is not 32 bytes"},
	{"kdf salt text", put("!", "keyslots", "1", "kdf", "salt"), "keyslots.1.kdf.salt: is not base64"},
	{"pbkdf2 iterations 0", put(0, "keyslots", "1", "kdf", "iterations"), "keyslots.1.kdf.iterations: is zero"},
	{"pbkdf2 iterations negative", put(-1, "keyslots", "1", "kdf", "iterations"), "keyslots.1.kdf.iterations: is not a 32-bit number"},
	{"pbkdf2 iterations of 33 bits", put(int64(1<<32), "keyslots", "1", "kdf", "iterations"), "keyslots.1.kdf.iterations: is not a 32-bit number"},
	{"argon2 time 0", put(0, "keyslots", "0", "kdf", "time"), "keyslots.0.kdf: costs are out of range"},
	{"argon2 cpus 0", put(0, "keyslots", "0", "kdf", "cpus"), "keyslots.0.kdf: costs are out of range"},
	{"argon2 cpus 256", both(put(256, "keyslots", "0", "kdf", "cpus"), put(4096, "keyslots", "0", "kdf", "memory")), "keyslots.0.kdf: costs are out of range"},
	{"argon2 memory under 8 KiB a lane", put(7, "keyslots", "0", "kdf", "memory"), "keyslots.0.kdf: costs are out of range"},
	{"argon2 memory over 4 GiB", put(4<<20+1, "keyslots", "0", "kdf", "memory"), "keyslots.0.kdf: costs are out of range"},

	// digests
	{"no digests", drop("digests"), "digests: is missing"},
	{"digest 8", put(object{}, "digests", "8"), "digests.8: is not a number below 8"},
	{"digest type", put("argon2", "digests", "0", "type"), `digests.0.type: "argon2" is unknown`},
	{"digest hash", put("md5", "digests", "0", "hash"), `digests.0.hash: not supported: hash "md5"`},
	{"digest iterations", put(0, "digests", "0", "iterations"), "digests.0.iterations: is zero"},
	{"digest salt", put("AAAA", "digests", "0", "salt"), "digests.0.salt: is not 32 bytes"},
	{"digest value", put("AAAA", "digests", "0", "digest"), "digests.0.digest: is 3 bytes long"},
	{"digest keyslots", drop("digests", "0", "keyslots"), "digests.0.keyslots: is missing"},
	{"digest keyslots twice", put(list{"0", "1", "0"}, "digests", "0", "keyslots"), `digests.0.keyslots: "0" is not a valid or is a repeated number`},
	{"digest keyslots odd", put(list{"0", "1", "+1"}, "digests", "0", "keyslots"), `digests.0.keyslots: "+1" is not a valid`},
	{"digest keyslots null", put(list{"0", nil}, "digests", "0", "keyslots"), `digests.0.keyslots: "" is not a valid`},
	{"digest of a missing keyslot", put(list{"0", "1", "2"}, "digests", "0", "keyslots"), "digests.0.keyslots: there is no keyslot 2"},
	{"digest of a missing segment", put(list{"0", "1"}, "digests", "0", "segments"), "digests.0.segments: there is no segment 1"},
	{"keyslot without digest", put(list{"0"}, "digests", "0", "keyslots"), "keyslots.1: has no digest"},
	{"keyslot in two digests", change{json: func(m map[string]any) {
		m["digests"].(object)["1"] = object{}
		for k, v := range m["digests"].(object)["0"].(object) {
			m["digests"].(object)["1"].(object)[k] = v
		}
	}}, "belongs to digest"},
	{"segment without digest", put(list{}, "digests", "0", "segments"), "segments.0: has no digest"},

	// segments
	{"no segments", drop("segments"), "segments: is missing"},
	{"segments empty", both(put(object{}, "segments"), put(list{}, "digests", "0", "segments")), "segments: there is none"},
	{"segment gap", put(segment("4194304", "dynamic"), "segments", "2"), "segments.1: is missing"},
	{"segment type", drop("segments", "0", "type"), "segments.0.type: is missing"},
	{"segment offset odd", put("229377", "segments", "0", "offset"), "segments.0.offset: 229377 is not a multiple of 512"},
	{"segment in the header", put("228864", "segments", "0", "offset"), "segments.0.offset: lies inside the header"},
	{"segment size 0", put("0", "segments", "0", "size"), "segments.0.size: is zero"},
	{"segment size odd", put("513", "segments", "0", "size"), "segments.0.size: 513 is not a multiple of 512"},
	{"segment size no number", put("all", "segments", "0", "size"), "segments.0.size: is not a decimal"},
	{"segment size too large", put("9223372036854775296", "segments", "0", "size"), "segments.0.size: out of range"},
	{"segment size and sector size", both(put("4608", "segments", "0", "size"), put(4096, "segments", "0", "sector_size")), "segments.0.size: 4608 is not a multiple of the sector size"},
	{"sector size", put(8192, "segments", "0", "sector_size"), "segments.0.sector_size: 8192 is not"},
	{"sector size 0", put(0, "segments", "0", "sector_size"), "segments.0.sector_size: 0 is out of range"},
	{"segment encryption", drop("segments", "0", "encryption"), "segments.0.encryption: is missing"},
	{"IV", put("x", "segments", "0", "iv_tweak"), "segments.0.iv_tweak: is not a decimal"},
	{"segment flags", put("x", "segments", "0", "flags"), "segments.0.flags: is not an array"},
	{"integrity", put("hmac(sha256)", "segments", "0", "integrity"), "segments.0.integrity: is not an object"},
	{"segments overlap", both(
		both(put("1048576", "segments", "0", "size"), put(segment("1024000", "dynamic"), "segments", "1")),
		put(list{"0", "1"}, "digests", "0", "segments")), "segments.1: overlaps segment 0"},
	{"segment behind a dynamic one", both(
		put(segment("4194304", "dynamic"), "segments", "1"),
		put(list{"0", "1"}, "digests", "0", "segments")), "segments.1: overlaps segment 0"},

	// tokens
	{"no tokens", drop("tokens"), "tokens: is missing"},
	{"token 32", put(object{}, "tokens", "32"), "tokens.32: is not a number below 32"},
	{"token type", drop("tokens", "0", "type"), "tokens.0.type: is missing"},
	{"token keyslots", drop("tokens", "0", "keyslots"), "tokens.0.keyslots: is missing"},
	{"token of a missing keyslot", put(list{"5"}, "tokens", "0", "keyslots"), "tokens.0.keyslots: there is no keyslot 5"},
	{"token of keyslot 32", put(list{"32"}, "tokens", "0", "keyslots"), `tokens.0.keyslots: "32" is not a valid`},
	{"luks2-keyring with more", put(1, "tokens", "1", "x"), "tokens.1: is not a valid luks2-keyring token"},
	{"luks2-keyring without key", put("", "tokens", "1", "key_description"), "tokens.1: is not a valid luks2-keyring token"},
	{"luks2-keyring with odd key", put(1, "tokens", "1", "key_description"), "tokens.1: is not a valid luks2-keyring token"},
}

func TestBrokenRules(t *testing.T) {
	t.Parallel()
	if _, err := luks2.Open(t.Context(), luks2.NewMemory(put("1048576", "segments", "0", "offset").apply(t, baseImage(t)))); err != nil {
		t.Fatalf("a change that breaks nothing: %v", err)
	}
	for _, v := range brokenRules {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			image := v.apply(t, baseImage(t))
			before := slices.Clone(image)
			h, err := luks2.Open(t.Context(), luks2.NewMemory(image))
			if err == nil || h != nil || !strings.Contains(err.Error(), v.want) {
				t.Errorf("got %v, want %q", err, v.want)
			}
			// What is whole and refused must not be taken for damaged: nobody
			// is to restore a backup over it.
			kind := luks2.ErrUnsupported
			switch what, _, _ := strings.Cut(v.name, " "); what {
			case "position", "size", "UUID":
				kind = luks2.ErrDamaged
			}
			if v.name == "version 1" {
				kind = luks2.ErrNotLUKS2
			}
			if !errors.Is(err, kind) || errors.Is(err, luks2.ErrDamaged) != (kind == luks2.ErrDamaged) {
				t.Errorf("kind of %v", err)
			}
			if !bytes.Equal(before, image) {
				t.Error("opening wrote something")
			}
			// With the other copy whole, the volume opens and says what is wrong.
			one := baseImage(t)
			v.applyTo(t, headerCopies(one)[0])
			h, err = luks2.Open(t.Context(), luks2.NewMemory(one))
			if err != nil || h.Damage() == nil || !strings.Contains(h.Damage().Error(), v.want) {
				t.Errorf("from the second copy: %v", err)
			}
		})
	}
}

// TestRefusals has headers that may be looked at, but from which something may
// not be opened, activated or written.
func TestRefusals(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, h *luks2.Header) error {
		_, err := h.VolumeKey(t.Context(), 0, text(t, "first"))
		return err
	}
	second := func(t *testing.T, h *luks2.Header) error {
		_, err := h.VolumeKey(t.Context(), 1, text(t, "second"))
		return err
	}
	find := func(t *testing.T, h *luks2.Header) error {
		_, _, err := h.Find(t.Context(), text(t, "first"))
		return err
	}
	segmentOf := func(_ *testing.T, h *luks2.Header) error { _, err := h.Segment(); return err }
	commit := func(t *testing.T, h *luks2.Header) error { return h.Commit(t.Context()) }
	label := func(_ *testing.T, h *luks2.Header) error { return h.SetLabel("x") }
	token := func(_ *testing.T, h *luks2.Header) error { return h.RemoveToken(0) }
	read := func(t *testing.T, h *luks2.Header) error {
		key := text(t, strings.Repeat("k", 32))
		_, err := h.NewReader(bytes.NewReader(nil), 2<<20, key)
		return err
	}
	type act = func(t *testing.T, h *luks2.Header) error
	all := []act{open, find, segmentOf, commit, label, token, read}
	two := both(both(put("1048576", "segments", "0", "size"), put(segment("2097152", "dynamic"), "segments", "1")),
		put(list{"0", "1"}, "digests", "0", "segments"))
	backup := both(put(segment("1048576", "dynamic", "flags", list{"backup-final"}), "segments", "1"),
		put(list{"0", "1"}, "digests", "0", "segments"))
	linear := put(object{"type": "linear", "offset": "1048576", "size": "dynamic"}, "segments", "0")
	for _, v := range []struct {
		name string
		change
		do   []act
		is   error
		want string
	}{
		{"requirement", put(object{"mandatory": list{"time-travel"}}, "config", "requirements"), all, luks2.ErrUnsupported, `the header requires "time-travel"`},
		{"online reencryption", put(object{"mandatory": list{"online-reencrypt-v2"}}, "config", "requirements"), all, luks2.ErrUnsupported, `requires "online-reencrypt-v2"`},
		{"reencrypt keyslot", put(object{"type": "reencrypt", "key_size": 1, "mode": "reencrypt", "direction": "forward",
			"area": object{"type": "none", "offset": "163840", "size": "4096"}}, "keyslots", "2"), all, luks2.ErrUnsupported, "keyslot 2 belongs to a reencryption"},
		{"segment in reencryption", put(list{"in-reencryption"}, "segments", "0", "flags"), all, luks2.ErrUnsupported, "segment 0 belongs to a reencryption"},
		{"backup segment", backup, all, luks2.ErrUnsupported, "segment 1 belongs to a reencryption"},
		{"two segments", two, []act{segmentOf, read}, luks2.ErrUnsupported, "2 segments, only one"},
		{"linear segment", linear, []act{segmentOf, read}, luks2.ErrUnsupported, `segment of type "linear"`},
		{"integrity", put(object{"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"}, "segments", "0", "integrity"),
			[]act{segmentOf, read}, luks2.ErrUnsupported, `integrity "hmac(sha256)"`},
		{"null cipher in the segment", put("cipher_null-ecb", "segments", "0", "encryption"), []act{segmentOf, read}, luks2.ErrUnsupported, `cipher "cipher_null-ecb"`},
		{"unknown cipher in the segment", put("rot13-xts-plain64", "segments", "0", "encryption"), []act{segmentOf, read}, luks2.ErrUnsupported, `cipher "rot13-xts-plain64"`},
		{"cipher with more behind", put("aes-xts-plain64 0 /dev/sda 0", "segments", "0", "encryption"), []act{segmentOf, read}, luks2.ErrUnsupported, "cipher"},
		{"null cipher in a keyslot", put("cipher_null-ecb", "keyslots", "0", "area", "encryption"), []act{open}, luks2.ErrUnsupported, `cipher "cipher_null-ecb"`},
		{"ECB in a keyslot", put("aes-ecb", "keyslots", "0", "area", "encryption"), []act{open}, luks2.ErrUnsupported, `cipher "aes-ecb"`},
		{"key size of a keyslot", put(48, "keyslots", "0", "area", "key_size"), []act{open}, luks2.ErrUnsupported, "key of 384 bits"},
		{"AF hash", put("md5", "keyslots", "0", "af", "hash"), []act{open}, luks2.ErrUnsupported, `hash "md5"`},
		{"KDF hash", put("crc32", "keyslots", "1", "kdf", "hash"), []act{second}, luks2.ErrUnsupported, `hash "crc32"`},
		{"PBKDF2 over the limit", put(2001, "keyslots", "1", "kdf", "iterations"), []act{second}, luks2.ErrLimit, "2001 PBKDF2 iterations, at most 2000"},
		{"digest over the limit", put(2001, "digests", "0", "iterations"), []act{second}, luks2.ErrLimit, "2001 PBKDF2 iterations, at most 2000"},
		{"Argon2 memory over the limit", put(8192, "keyslots", "0", "kdf", "memory"), []act{open}, luks2.ErrLimit, "wants 8 MiB of memory, at most 4 MiB"},
		{"Argon2 passes over the limit", put(17, "keyslots", "0", "kdf", "time"), []act{open}, luks2.ErrLimit, "17 passes of argon2id, at most 16"},
		{"unknown keyslot type", put(object{"type": "future", "key_size": 3}, "keyslots", "0"), []act{open}, luks2.ErrUnsupported, `keyslot 0 is of type "future"`},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			image := v.apply(t, baseImage(t))
			before := slices.Clone(image)
			for i, do := range v.do {
				h, err := luks2.Open(t.Context(), luks2.NewMemory(image),
					luks2.WithLimits(luks2.Limits{KDFMemory: 4 << 20, KDFIterations: 2000, KDFTime: 16}))
				if err != nil {
					t.Fatal(err)
				}
				if err := do(t, h); !errors.Is(err, v.is) || !strings.Contains(err.Error(), v.want) {
					t.Errorf("act %d: got %v, want %q", i, err, v.want)
				}
			}
			if !bytes.Equal(before, image) {
				t.Error("something was written")
			}
		})
	}
}

// TestOneCopy breaks either copy at every kind of byte: the volume opens from
// the other, and repairing brings the broken one back.
func TestOneCopy(t *testing.T) {
	t.Parallel()
	for at := range []int{0, 1} {
		for _, pos := range []int{0, 6, 8, seqAt + 7, labelAt, sumNameAt, saltAt, uuidAt, 208, positionAt + 7, 264, checksumAt, 512, fixedSize, fixedSize + 100, copySize - 1} {
			image := baseImage(t)
			whole := slices.Clone(image[(1-at)*copySize:][:copySize])
			image[at*copySize+pos] ^= 0x21
			s := luks2.NewMemory(image)
			h := reopen(t, s)
			if damage := h.Damage(); damage == nil || !strings.HasPrefix(damage.Error(), []string{"first", "second"}[at]) {
				t.Errorf("copy %d, byte %d: damage %v", at, pos, damage)
			}
			if err := h.Repair(t.Context()); err != nil {
				t.Errorf("copy %d, byte %d: %v", at, pos, err)
			}
			again := reopen(t, s)
			if h.Damage() != nil || again.Damage() != nil || again.SeqID() != h.SeqID() {
				t.Errorf("copy %d, byte %d: after the repair: %v, %v", at, pos, h.Damage(), again.Damage())
			}
			if !bytes.Equal(image[(1-at)*copySize:][:copySize], whole) {
				t.Errorf("copy %d, byte %d: the repair wrote the good copy", at, pos)
			}
			a, b := headerCopies(image)[0], headerCopies(image)[1]
			if !bytes.Equal(a[fixedSize:], b[fixedSize:]) || bytes.Equal(a[saltAt:uuidAt], b[saltAt:uuidAt]) {
				t.Errorf("copy %d, byte %d: metadata differs or salts are the same", at, pos)
			}
		}
	}
}

func TestBothCopies(t *testing.T) {
	t.Parallel()
	image := baseImage(t)
	image[100] ^= 1
	image[copySize+100] ^= 1
	_, err := luks2.Open(t.Context(), luks2.NewMemory(image))
	if !errors.Is(err, luks2.ErrDamaged) || strings.Count(err.Error(), "checksum does not match") != 2 {
		t.Errorf("both bad: %v", err)
	}
	image = baseImage(t)
	a, b := headerCopies(image)[0], headerCopies(image)[1]
	swapped := append(slices.Clone(b), a...)
	copy(image, swapped)
	if _, err := luks2.Open(t.Context(), luks2.NewMemory(image)); !errors.Is(err, luks2.ErrNotLUKS2) {
		t.Errorf("swapped: %v", err)
	}
	for _, blank := range [][]byte{nil, make([]byte, 1<<20), bytes.Repeat([]byte{0xff}, 1<<20)} {
		if _, err := luks2.Open(t.Context(), luks2.NewMemory(blank)); !errors.Is(err, luks2.ErrNotLUKS2) {
			t.Errorf("%d bytes of nothing: %v", len(blank), err)
		}
	}
}

// TestTruncated cuts a volume at many lengths, of a store that knows its size
// and of one that does not.
func TestTruncated(t *testing.T) {
	t.Parallel()
	image := baseImage(t)
	lengths := []int{0, 1, 6, 511, 512, 4095, 4096, 16383, 16384, 32767, 32768, len(image) - 1}
	for n := 100; n < 40000; n += 997 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		_, err := luks2.Open(t.Context(), luks2.NewMemory(image[:n]))
		want := luks2.ErrDamaged
		if n < fixedSize {
			want = luks2.ErrNotLUKS2
		}
		if !errors.Is(err, want) {
			t.Errorf("%d bytes: %v", n, err)
		}
		h, err := luks2.Open(t.Context(), sizeless{luks2.NewMemory(image[:n])})
		if n < copySize {
			if !errors.Is(err, want) {
				t.Errorf("%d bytes, size unknown: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d bytes, size unknown: %v", n, err)
			continue
		}
		key, err := h.VolumeKey(t.Context(), 1, text(t, "second"))
		key.Wipe()
		if whole := n >= 32<<10+areaSize+4000*16; whole != (err == nil) || !whole && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes, opening a keyslot: %v", n, err)
		}
	}
}

// sizeless hides that a store knows its size.
type sizeless struct{ s luks2.Store }

func (s sizeless) ReadAt(p []byte, off int64) (int, error)  { return s.s.ReadAt(p, off) }
func (s sizeless) WriteAt(p []byte, off int64) (int, error) { return s.s.WriteAt(p, off) }
func (s sizeless) Sync() error                              { return s.s.Sync() }

// TestOlderCopy has copies of two times: the newer wins, whichever it is, and
// the next write puts both right.
func TestOlderCopy(t *testing.T) {
	t.Parallel()
	for newer := range 2 {
		image := baseImage(t)
		area := headerCopies(image)[newer]
		put("new", "tokens", "0", "type").applyTo(t, area)
		binary.BigEndian.PutUint64(area[seqAt:], binary.BigEndian.Uint64(area[seqAt:])+1)
		seal(area)
		s := luks2.NewMemory(image)
		h := reopen(t, s)
		if token, _ := h.Token(0); token.Type != "new" {
			t.Errorf("copy %d is newer: the older was taken", newer)
		}
		if h.Damage() == nil || !strings.Contains(h.Damage().Error(), "older") {
			t.Errorf("copy %d is newer: %v", newer, h.Damage())
		}
		seq := h.SeqID()
		if err := errors.Join(h.SetLabel("both"), h.Commit(t.Context())); err != nil {
			t.Fatal(err)
		}
		h = reopen(t, s)
		if token, _ := h.Token(0); h.Damage() != nil || h.SeqID() != seq+1 || token.Type != "new" {
			t.Errorf("after the next write: %v, sequence %d after %d, token %q", h.Damage(), h.SeqID(), seq, token.Type)
		}
	}
	// Among equals the first counts, as for libcryptsetup.
	image := baseImage(t)
	put("other", "tokens", "0", "type").applyTo(t, headerCopies(image)[1])
	if token, _ := reopen(t, luks2.NewMemory(image)).Token(0); token.Type != "x" {
		t.Errorf("of equal copies the second was taken: %q", token.Type)
	}
}

// TestProbing finds the second copy for every size when the first is gone.
func TestProbing(t *testing.T) {
	t.Parallel()
	for size := int64(16 << 10); size <= 4<<20; size *= 2 {
		s := luks2.NewMemory(make([]byte, 2*size+256<<10))
		h, key, err := luks2.Format(t.Context(), s, text(t, "first"), luks2.FormatOptions{
			HeaderSize: size, DataOffset: 2*size + 256<<10, KeySize: 32, KDF: luks2.Minimal(), Fast: true})
		if err != nil {
			t.Fatal(err)
		}
		wiped(t, key)
		if h.Size() != size {
			t.Errorf("header of %d bytes, want %d", h.Size(), size)
		}
		for _, junk := range [][]byte{make([]byte, fixedSize), bytes.Repeat([]byte{0xa5}, fixedSize)} {
			if junk[0] == 0 && size > 64<<10 {
				continue
			}
			if _, err := s.WriteAt(junk, 0); err != nil {
				t.Fatal(err)
			}
			h = reopen(t, s)
			if err := h.Opens(t.Context(), 0, text(t, "first"), key); err != nil || h.Damage() == nil {
				t.Errorf("%d: %v, damage %v", size, err, h.Damage())
			}
			if err := h.Repair(t.Context()); err != nil {
				t.Errorf("%d: %v", size, err)
			}
			if damage := reopen(t, s).Damage(); damage != nil {
				t.Errorf("%d: after the repair: %v", size, damage)
			}
		}
	}
	// A copy that stands where none of its size can.
	image := baseImage(t)
	area := slices.Clone(headerCopies(image)[1])
	clear(image[:2*copySize])
	binary.BigEndian.PutUint64(area[positionAt:], 2*copySize)
	seal(area)
	copy(image[2*copySize:], area)
	if _, err := luks2.Open(t.Context(), luks2.NewMemory(image)); err == nil || !strings.Contains(err.Error(), "header size 16384 of the second copy at 32768") {
		t.Errorf("copy of another size: %v", err)
	}
}

// TestForeignSignature has something else in the place of the first copy.
func TestForeignSignature(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		at    int
		magic string
		want  string
	}{
		{512, "EFI PART", "GPT"}, {0x438, "\x53\xef", "ext"}, {0, "XFSB", "XFS"}, {510, "\x55\xaa", "boot sector"},
		{4086, "SWAPSPACE2", "swap"}, {0, "LUKS\xba\xbe\x00\x01", "LUKS1"}, {536 - 24, "LABELONE", "LVM"},
	} {
		image := baseImage(t)
		clear(image[:copySize])
		copy(image[v.at:], v.magic)
		before := slices.Clone(image)
		h := reopen(t, luks2.NewMemory(image))
		for what, err := range map[string]error{
			"repair": h.Repair(t.Context()),
			"commit": errors.Join(h.SetLabel("x"), h.Commit(t.Context())),
		} {
			if !errors.Is(err, luks2.ErrAmbiguous) || !strings.Contains(err.Error(), v.want) {
				t.Errorf("%s over %s: %v", what, v.want, err)
			}
		}
		if !bytes.Equal(before, image) {
			t.Errorf("%s was overwritten", v.want)
		}
		s := luks2.NewMemory(image)
		if err := reopen(t, s).RepairAnyway(t.Context()); err != nil || reopen(t, s).Damage() != nil {
			t.Errorf("%s, anyway: %v", v.want, err)
		}
	}
}

// TestReadErrors passes on what the device says.
func TestReadErrors(t *testing.T) {
	t.Parallel()
	if _, err := luks2.Open(t.Context(), deaf{}); !errors.Is(err, errDeaf) {
		t.Errorf("no copy can be read: %v", err)
	}
}

var errDeaf = errors.New("input/output error")

type deaf struct{}

func (deaf) ReadAt([]byte, int64) (int, error)  { return 0, errDeaf }
func (deaf) WriteAt([]byte, int64) (int, error) { return 0, errDeaf }
func (deaf) Sync() error                        { return errDeaf }

// TestFull fills the metadata to the last byte, and one further.
func TestFull(t *testing.T) {
	t.Parallel()
	s := luks2.NewMemory(baseImage(t))
	h := reopen(t, s)
	token := func(n int) []byte {
		return fmt.Appendf(nil, `{"type":"fill","keyslots":[],"a":%q}`, strings.Repeat("x", n))
	}
	if err := h.SetToken(2, token(0)); err != nil {
		t.Fatal(err)
	}
	room := copySize - fixedSize - 1 - len(h.JSON())
	if err := h.SetToken(2, token(room+1)); !errors.Is(err, luks2.ErrFull) {
		t.Errorf("one byte too many: %v", err)
	}
	if err := errors.Join(h.SetToken(2, token(room)), h.Commit(t.Context())); err != nil {
		t.Error(err)
	}
	h = reopen(t, s)
	if h.Damage() != nil || len(h.JSON()) != copySize-fixedSize-1 {
		t.Errorf("%v, %d bytes", h.Damage(), len(h.JSON()))
	}
	if _, err := h.AddToken(token(0)); !errors.Is(err, luks2.ErrFull) {
		t.Errorf("a token into a full header: %v", err)
	}
}

// A copy that is whole and newer, but not understood, was written by somebody
// who knows more than we do: reading the older one is fine, overwriting is not.
func TestNewerCopyNotUnderstood(t *testing.T) {
	t.Parallel()
	s, h, _ := formatted(t, luks2.FormatOptions{})
	strange := luks2.NewMemory(make([]byte, 2<<20))
	image := make([]byte, 2<<20)
	if _, err := s.ReadAt(image, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := strange.WriteAt(image, 0); err != nil {
		t.Fatal(err)
	}
	// Its sequence number is raised by a write of ours, then its metadata made strange.
	newer := reopen(t, strange)
	if err := errors.Join(newer.SetFlags("x"), newer.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	area := make([]byte, h.Size())
	if _, err := strange.ReadAt(area, h.Size()); err != nil {
		t.Fatal(err)
	}
	area = bytes.Replace(area, []byte(`"type":"pbkdf2"`), []byte(`"type":"pbkdf9"`), 1)
	clear(area[448:512])
	sum := sha256.Sum256(area)
	copy(area[448:], sum[:])
	if _, err := s.WriteAt(area, h.Size()); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, s)
	if h.Damage() == nil {
		t.Error("the strange copy goes unmentioned")
	}
	if err := errors.Join(h.SetLabel("x")); err != nil {
		t.Fatal(err)
	}
	if err := h.Commit(t.Context()); !errors.Is(err, luks2.ErrUnsupported) {
		t.Errorf("committed over a newer copy: %v", err)
	}
	if err := h.Repair(t.Context()); !errors.Is(err, luks2.ErrUnsupported) {
		t.Errorf("repaired over a newer copy: %v", err)
	}
	if err := h.RepairAnyway(t.Context()); err != nil {
		t.Errorf("not even with force: %v", err)
	}
}

// A header for data on another device must not be mapped over itself.
func TestDataElsewhere(t *testing.T) {
	t.Parallel()
	s, h, key := formatted(t, luks2.FormatOptions{Detached: true})
	if _, err := h.Table("x", luks2.Activation{Device: "/dev/x", Size: 1 << 20}); !errors.Is(err, luks2.ErrUnsupported) {
		t.Errorf("table over the header: %v", err)
	}
	if _, err := h.Table("x", luks2.Activation{Device: "/dev/x", Size: 1 << 20, Detached: true}); err != nil {
		t.Error(err)
	}
	if _, err := h.NewReader(s, 2<<20, key); !errors.Is(err, luks2.ErrUnsupported) {
		t.Errorf("reading the header as data: %v", err)
	}
}
