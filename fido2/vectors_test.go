package fido2

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume/volumetest"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What a real key (Security Key by Yubico) said; from the tests of python-fido2.
const (
	realInfo     = "a60182665532465f5632684649444f5f325f3002826375766d6b686d61632d7365637265740350f8a011f38c0a4d15800617111f9edc7d04a462726bf5627570f564706c6174f469636c69656e7450696ef4051904b0068101"
	realMade     = "0021f5fc0b85cd22e60623bcd7d1ca48948909249b4776eb515154e57b66ae12410000001cf8a011f38c0a4d15800617111f9edc7d0040fe3aac036d14c1e1c65518b698dd1da8f596bc33e11072813466c6bf3845691509b80fb76d59309b8d39e0a93452688f6ca3a39a76f3fc52744fb73948b15783a5010203262001215820643566c206dd00227005fa5de69320616ca268043a38f08bde2e9dc45a5cafaf225820171353b2932434703726aae579fa6542432861fe591e481ea22d63997e1a5290"
	realAsserted = "0021f5fc0b85cd22e60623bcd7d1ca48948909249b4776eb515154e57b66ae12010000001d"
	realRP       = "example.com"
)

func TestRealKey(t *testing.T) {
	t.Parallel()
	var i Info
	if err := decode(unhex(t, realInfo), &i); err != nil {
		t.Fatal(err)
	}
	if err := i.check(); err != nil || !i.HMACSecret() || i.PINSet() || !i.Touchable() || i.Verifies() || i.MaxMessageSize != 1200 {
		t.Errorf("%+v: %v", i, err)
	}
	if p, err := i.protocol(); p != 1 || err != nil {
		t.Errorf("protocol %d: %v", p, err)
	}
	if m := Model(i.AAGUID); m != "Security Key by Yubico" {
		t.Errorf("model %q", m)
	}
	d, err := readAuthDataOfAny(unhex(t, realMade))
	if err != nil || len(d.credential) != 64 || !bytes.Equal(d.aaguid, i.AAGUID) || d.flags != flagPresent|flagCredential {
		t.Errorf("%+v: %v", d, err)
	}
	if d, err := readAuthDataOfAny(unhex(t, realAsserted)); err != nil || d.flags != flagPresent {
		t.Errorf("%+v: %v", d, err)
	}
	if _, err := parseAuthData(unhex(t, realMade), RelyingParty); !errors.Is(err, ErrResponse) {
		t.Errorf("another relying party: %v", err)
	}
}

// readAuthDataOfAny puts our relying party in place of the other.
func readAuthDataOfAny(b []byte) (*authData, error) {
	copy(b, sumOf(RelyingParty))
	return parseAuthData(b, RelyingParty)
}

// TestPINProtocolVectors has the values of the tests of python-fido2 for the first
// protocol, with the PIN 1234.
func TestPINProtocolVectors(t *testing.T) {
	t.Parallel()
	private, err := ecdh.P256().NewPrivateKey(unhex(t, "7452e599fee739d8a653f6a507343d12d382249108a651402520b72f24fe7684"))
	if err != nil {
		t.Fatal(err)
	}
	theirs := coseKey{coseEC2, coseECDHES, coseP256, unhex(t, "0501d5bc78da9252560a26cb08fcc60cbe0b6d3b8e1d1fcee514fac0af675168"),
		unhex(t, "d551b3ed46f665731f95b4532939c25d91db7eb844bd96d4abd4083785f8df47")}
	public, err := theirs.public()
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAgreement(1, private, public)
	if err != nil {
		t.Fatal(err)
	}
	defer a.wipe()
	if got := hex.EncodeToString(a.aesKey.Reveal()); got != "c42a039d548100dfba521e487debcbbb8b66bb7496f8b1862a7a395ed83e1a1c" {
		t.Errorf("shared secret %s", got)
	}
	token, err := a.decrypt(unhex(t, "7a9f98e31b77be90f9c64d12e9635040"))
	if err != nil {
		t.Fatal(err)
	}
	defer token.Wipe()
	if got := hex.EncodeToString(token.Reveal()); got != "aff12c6dcfbf9df52f7a09211e8865cd" {
		t.Errorf("token %s", got)
	}
	hash, err := a.encrypt(sumOf("1234")[:16])
	if err != nil || hex.EncodeToString(hash) != "afe8327ce416da8ee3d057589c2ce1a9" {
		t.Errorf("hash of the PIN %x: %v", hash, err)
	}
	if _, err := a.encrypt(make([]byte, 15)); !errors.Is(err, errBlocks) {
		t.Errorf("half a block: %v", err)
	}
}

// TestAgreementRefuses keys that are none.
func TestAgreementRefuses(t *testing.T) {
	t.Parallel()
	x := make([]byte, 32)
	for _, k := range []coseKey{{}, {coseEC2, coseECDHES, coseP256, x, x}, {coseEC2, coseECDHES, coseP256, x[:31], x}, {1, coseECDHES, coseP256, x, x}} {
		if _, err := k.public(); !errors.Is(err, ErrResponse) {
			t.Errorf("%+v: %v", k, err)
		}
	}
	a := &agreement{p: 2, aesKey: secret.New(32), hmacKey: secret.New(32)}
	defer a.wipe()
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := a.decrypt(make([]byte, n)); !errors.Is(err, ErrResponse) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestDescriptor(t *testing.T) {
	t.Parallel()
	key := unhex(t, "06d0f10901a1010920150026ff007508954081020921150026ff00750895409102c0")
	mouse := unhex(t, "05010902a1010901a10005091901290315002501950375018102c0c0")
	for _, c := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"key", key, true}, {"mouse", mouse, false}, {"nothing", nil, false}, {"mouse and key", append(bytes.Clone(mouse), key...), true},
		{"cut off", key[:len(key)-20], false}, {"cut off within an item", key[:2], false},
		{"other usage", bytes.Replace(key, []byte{0x09, 1}, []byte{0x09, 2}, 1), false},
		{"numbered reports", append([]byte{0x85, 1}, key...), false},
		{"long item before", append([]byte{0xfe, 2, 0, 1, 2}, key...), true},
		{"reports too short", bytes.ReplaceAll(key, []byte{0x95, 0x40}, []byte{0x95, 4}), false},
		{"more ends than collections", append([]byte{0xc0, 0xc0}, key...), true},
	} {
		s, err := parseDescriptor(c.b)
		if c.ok != (err == nil) || c.ok && s != (Sizes{64, 64}) {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
	}
}

// TestList reads a tree like the kernel's.
func TestList(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put := func(name, content string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := (Hidraw{root}).List(); err != nil || list != nil {
		t.Errorf("no class: %v, %v", list, err)
	}
	key := string(unhex(t, "06d0f10901a1010920150026ff007508954081020921150026ff00750895409102c0"))
	for name, descriptor := range map[string]string{"0003:1050:0407.0001": key, "0003:046d:c077.0002": "\x05\x01\x09\x02\xa1\x01\xc0"} {
		put("sys/devices/usb1/1-1/1-1:1.0/"+name+"/report_descriptor", descriptor)
		put("sys/devices/usb1/1-1/1-1:1.0/"+name+"/hidraw/here", "")
	}
	put("sys/devices/usb1/1-1/manufacturer", "Yubico\n")
	put("sys/devices/usb1/1-1/product", "YubiKey\x1b[2J FIDO\n")
	put("sys/devices/virtual/misc/uhid/0003:1209:F1D0.0003/report_descriptor", key)
	put("sys/devices/virtual/misc/uhid/0003:1209:F1D0.0003/uevent", "DRIVER=hid-generic\nHID_NAME=soft\n")
	if err := os.MkdirAll(filepath.Join(root, "sys/class/hidraw"), 0o755); err != nil {
		t.Fatal(err)
	}
	for node, device := range map[string]string{"hidraw0": "usb1/1-1/1-1:1.0/0003:1050:0407.0001", "hidraw1": "usb1/1-1/1-1:1.0/0003:046d:c077.0002", "hidraw2": "virtual/misc/uhid/0003:1209:F1D0.0003"} {
		dir := filepath.Join(root, "sys/devices", device, "hidraw", node)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for link, to := range map[string]string{filepath.Join(dir, "device"): "../..", filepath.Join(root, "sys/class/hidraw", node): filepath.Join("../../devices", device, "hidraw", node)} {
			if err := os.Symlink(to, link); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := Hidraw{root}.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v: %v", list, err)
	}
	if f := sorted(list)[0]; f.Path != "/dev/hidraw0" || f.Manufacturer != "Yubico" || f.Product != "YubiKey[2J FIDO" {
		t.Errorf("%+v", f)
	}
	if f := list[1]; f.Path != "/dev/hidraw2" || f.Product != "soft" || f.ID == list[0].ID {
		t.Errorf("%+v", f)
	}
}

const goodToken = `{"type":"systemd-fido2","keyslots":["1"],"fido2-credential":"AQIDBA==","fido2-salt":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","fido2-rp":"io.systemd.cryptsetup","fido2-clientPin-required":true,"fido2-up-required":true,"fido2-uv-required":false}`

func TestTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to, err string }{
		{"", "", ""},
		{`,"fido2-rp":"io.systemd.cryptsetup"`, "", ""},
		{`"keyslots":["1"],`, `"keyslots":["1"],"tpm2-else":1,"lockport":"odd",`, ""},
		{`"fido2-clientPin-required":true,"fido2-up-required":true,"fido2-uv-required":false`, `"x":1`, ""},
		{`["1"]`, `["1","2"]`, "names more than one keyslot"},
		{`systemd-fido2`, `systemd-tpm2`, "of another type"},
		{`"AQIDBA=="`, `""`, "the credential is missing"},
		{`"AQIDBA=="`, `null`, `member "fido2-credential" is null`},
		{`"AQIDBA=="`, `"AQIDBA"`, `member "fido2-credential"`},
		{`Hh8="`, `Hg=="`, "salt of"},
		{`"fido2-rp":"io.systemd.cryptsetup"`, `"fido2-rp":""`, "relying party"},
		{`"fido2-rp":"io.systemd.cryptsetup"`, `"fido2-rp":"` + strings.Repeat("a", 254) + `"`, "relying party"},
		{`"fido2-up-required":true`, `"fido2-up-required":"yes"`, "cannot unmarshal"},
		{`"fido2-up-required":true`, `"fido2-large-blob":true`, `member "fido2-large-blob"`},
		{`"AQIDBA=="`, `"` + strings.Repeat("AAAA", 700) + `"`, "too long"},
	} {
		text := strings.Replace(goodToken, c.from, c.to, 1)
		tok, err := ParseToken(json.RawMessage(text))
		if (err == nil) != (c.err == "") || err != nil && (tok != nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v", text, err)
		}
	}
	_, err := ParseToken(json.RawMessage(strings.Replace(goodToken, "fido2-up-required", "fido2-next", 1)))
	if !errors.Is(err, luks2.ErrUnsupported) {
		t.Errorf("unknown member: %v", err)
	}
	tok, err := ParseToken(json.RawMessage(goodToken))
	if err != nil {
		t.Fatal(err)
	}
	// As systemd 257 writes it, member by member and in its order.
	if text, err := json.Marshal(tok); err != nil || string(text) != strings.Replace(goodToken, `["1"]`, `[]`, 1) {
		t.Errorf("%s: %v", text, err)
	}
}

func FuzzToken(f *testing.F) {
	f.Add([]byte(goodToken))
	f.Add([]byte(strings.Replace(goodToken, `"keyslots"`, `"lockport":{"fido2-aaguid":"00112233445566778899aabbccddeeff"},"keyslots"`, 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		volumetest.Reread(t, text, ParseToken, func(t *Token) ([]byte, error) { return json.Marshal(t) })
	})
}

func FuzzDescriptor(f *testing.F) {
	f.Add(unhex(f, "06d0f10901a1010920150026ff007508954081020921150026ff00750895409102c0"))
	f.Add([]byte{0xfe, 200, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseDescriptor(b); err == nil && (s.In < minReport || s.Out < minReport || s.In > maxReport || s.Out > maxReport) {
			t.Errorf("%+v", s)
		}
	})
}
