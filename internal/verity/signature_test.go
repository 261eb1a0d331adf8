package verity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rootHash = bytes.Repeat([]byte{0xab, 0x01}, 16)

// identity is a key and its certificate, made by openssl.
type identity struct {
	dir         string
	certificate *x509.Certificate
}

func newIdentity(t testing.TB, key ...string) identity {
	t.Helper()
	id := identity{dir: t.TempDir()}
	args := append([]string{"req", "-x509", "-nodes", "-days", "3", "-subj", "/O=lockport/CN=verity test", "-keyout", id.file("key"), "-out", id.file("crt"), "-newkey"}, key...)
	mustRun(t, "openssl", args...)
	b, err := os.ReadFile(id.file("crt"))
	if err != nil {
		t.Fatal(err)
	}
	if id.certificate, err = ParseCertificate(b); err != nil {
		t.Fatal(err)
	}
	return id
}

func (id identity) file(name string) string { return filepath.Join(id.dir, name) }

// sign signs as the facts about verity partitions say, or with other options.
func (id identity) sign(t testing.TB, text string, options ...string) []byte {
	t.Helper()
	if err := os.WriteFile(id.file("text"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"smime", "-sign", "-binary", "-in", id.file("text"), "-signer", id.file("crt"), "-inkey", id.file("key"), "-outform", "der", "-out", id.file("p7s")}, options...)
	mustRun(t, "openssl", args...)
	b, err := os.ReadFile(id.file("p7s"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func check(der []byte, root []byte, trusted ...*x509.Certificate) error {
	p, err := ParsePKCS7(der)
	if err != nil {
		return err
	}
	_, err = p.Verify(root, trusted)
	return err
}

var (
	plainOptions = []string{"-nocerts", "-noattr"}
	p256         = []string{"ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
)

func TestSignaturesOfOpenssl(t *testing.T) {
	t.Parallel()
	for name, key := range map[string][]string{
		"rsa":   {"rsa:2048"},
		"ecdsa": p256,
		"p384":  {"ec", "-pkeyopt", "ec_paramgen_curve:P-384"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, other := newIdentity(t, key...), newIdentity(t, key...)
			text := hex.EncodeToString(rootHash)
			for _, options := range [][]string{plainOptions, {}, {"-nocerts"}, {"-noattr"}, {"-nocerts", "-noattr", "-md", "sha384"},
				{"-md", "sha512"}, {"-nocerts", "-nosmimecap"}} {
				der := id.sign(t, text, options...)
				p, err := ParsePKCS7(der)
				if err != nil {
					t.Fatalf("%v: %v", options, err)
				}
				c, err := p.Verify(rootHash, []*x509.Certificate{other.certificate, id.certificate})
				if err != nil || c != id.certificate {
					t.Errorf("%v: %v", options, err)
				}
				if _, err := p.Verify(rootHash, []*x509.Certificate{other.certificate}); !errors.Is(err, ErrUntrusted) {
					t.Errorf("%v, another certificate: %v", options, err)
				}
				if _, err := p.Verify(rootHash, nil); !errors.Is(err, ErrUntrusted) {
					t.Errorf("%v, no certificate: %v", options, err)
				}
				wrong := bytes.Clone(rootHash)
				wrong[31] ^= 1
				if _, err := p.Verify(wrong, []*x509.Certificate{id.certificate}); err == nil || errors.Is(err, ErrUntrusted) {
					t.Errorf("%v, another root hash: %v", options, err)
				}
			}
			// What is signed is the text, and nothing like it.
			for _, text := range []string{strings.ToUpper(text), text + "\n", string(rootHash), ""} {
				if err := check(id.sign(t, text, plainOptions...), rootHash, id.certificate); err == nil {
					t.Errorf("a signature over %q is taken", text)
				}
			}
		})
	}
}

func TestSignaturesThatAreRefused(t *testing.T) {
	t.Parallel()
	id := newIdentity(t, p256...)
	text := hex.EncodeToString(rootHash)
	for name, c := range map[string]struct {
		der  []byte
		want string
	}{
		"SHA-1":            {id.sign(t, text, "-nocerts", "-noattr", "-md", "sha1"), "digest algorithm"},
		"SHA-224":          {id.sign(t, text, "-nocerts", "-noattr", "-md", "sha224"), "digest algorithm"},
		"content included": {id.sign(t, text, "-nocerts", "-noattr", "-nodetach"), "not a detached"},
		"empty":            {nil, "empty"},
		"long":             {make([]byte, maxPKCS7+1), "1048577 bytes"},
		"certificate":      {id.certificate.Raw, ""},
		"trailing":         {append(id.sign(t, text, plainOptions...), 0), "1 bytes too many"},
	} {
		if err := check(c.der, rootHash, id.certificate); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each bit of a signature without certificates counts.
func TestEachFlippedBitOfASignatureIsNoticed(t *testing.T) {
	t.Parallel()
	id := newIdentity(t, p256...)
	for _, options := range [][]string{plainOptions, {"-nocerts", "-nosmimecap"}} {
		der := id.sign(t, hex.EncodeToString(rootHash), options...)
		if err := check(der, rootHash, id.certificate); err != nil {
			t.Fatal(err)
		}
		for bit := range len(der) * 8 {
			bad := bytes.Clone(der)
			bad[bit/8] ^= 1 << (bit % 8)
			if err := check(bad, rootHash, id.certificate); err == nil {
				t.Errorf("%v: bit %d of byte %d: no error", options, bit%8, bit/8)
			}
		}
		for n := range der {
			if err := check(der[:n], rootHash, id.certificate); err == nil {
				t.Errorf("%d bytes: no error", n)
			}
		}
	}
}

// All signers have to be trusted, as systemd has it.
func TestTwoSigners(t *testing.T) {
	t.Parallel()
	a, b := newIdentity(t, p256...), newIdentity(t, p256...)
	der := a.sign(t, hex.EncodeToString(rootHash), "-nocerts", "-noattr", "-signer", b.file("crt"), "-inkey", b.file("key"))
	if err := check(der, rootHash, a.certificate, b.certificate); err != nil {
		t.Error(err)
	}
	for _, c := range []*x509.Certificate{a.certificate, b.certificate} {
		if err := check(der, rootHash, c); !errors.Is(err, ErrUntrusted) {
			t.Error(err)
		}
	}
}

func TestParseCertificate(t *testing.T) {
	t.Parallel()
	a, b := newIdentity(t, p256...), newIdentity(t, p256...)
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	both := slices.Concat([]byte("text\n"), block("PRIVATE KEY", []byte("x")), block("CERTIFICATE", a.certificate.Raw), block("CERTIFICATE", b.certificate.Raw))
	if c, err := ParseCertificate(both); err != nil || !c.Equal(a.certificate) {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, []byte("text"), a.certificate.Raw, block("CERTIFICATE", a.certificate.Raw[1:]), block("KEY", a.certificate.Raw), make([]byte, maxPKCS7+1)} {
		if c, err := ParseCertificate(bad); err == nil || c != nil {
			t.Errorf("%.50q is taken", bad)
		}
	}
}

func TestSignaturePartition(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("certificate"))
	want := &Signature{rootHash, []byte("PKCS#7"), sum[:]}
	b, err := want.Marshal()
	if err != nil || len(b) != 4096 {
		t.Fatal(len(b), err)
	}
	for _, b := range [][]byte{b, bytes.TrimRight(b, "\x00"), append(bytes.Clone(b), make([]byte, 8192)...)} {
		got, err := ParseSignature(b)
		if err != nil || !bytes.Equal(got.RootHash, rootHash) || string(got.PKCS7) != "PKCS#7" || !bytes.Equal(got.Fingerprint, sum[:]) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	hash := hex.EncodeToString(rootHash)
	for text, want := range map[string]string{
		`{"rootHash":"` + hash + `","signature":"QUJD"}`:                               "",
		` {"new":{"x":[1,null]},"signature":"QUJD","rootHash":"` + hash + `"} ` + "\n": "",
		``:                            "no JSON object",
		`[]`:                          "no JSON object",
		`{}`:                          "no string rootHash",
		`{"rootHash":"` + hash + `"}`: "no string signature",
		`{"roothash":"` + hash + `","signature":"QUJD"}`:                                  "no string rootHash",
		`{"rootHash":null,"signature":"QUJD"}`:                                            "no string rootHash",
		`{"rootHash":7,"signature":"QUJD"}`:                                               "no string rootHash",
		`{"rootHash":"` + strings.ToUpper(hash) + `","signature":"QUJD"}`:                 "lower-case",
		`{"rootHash":"` + hash[:30] + `","signature":"QUJD"}`:                             "15 bytes",
		`{"rootHash":"` + hash + hash + hash + `","signature":"QUJD"}`:                    "96 bytes",
		`{"rootHash":"` + hash[:63] + `","signature":"QUJD"}`:                             "lower-case",
		`{"rootHash":"` + hash + `","signature":""}`:                                      "empty",
		`{"rootHash":"` + hash + `","signature":"QUJ"}`:                                   "signature of the",
		`{"rootHash":"` + hash + `","signature":"QUI="}`:                                  "",
		`{"rootHash":"` + hash + `","signature":"QUJ="}`:                                  "signature of the",
		`{"rootHash":"` + hash + `","signature":"QUJD","signature":"QUJD"}`:               "twice",
		`{"rootHash":"` + hash + `","signature":"QUJD","certificateFingerprint":"ab"}`:    "fingerprint of 1",
		`{"rootHash":"` + hash + `","signature":"QUJD","certificateFingerprint":null}`:    "no string certificate",
		`{"rootHash":"` + hash + `","signature":"QUJD"}x`:                                 "behind",
		`{"rootHash":"` + hash + `","signature":"QUJD"}{}`:                                "behind",
		`{"rootHash":"` + hash + `","signature":"QUJD"` + "\x00}":                         "behind its first NUL",
		`{"rootHash":"` + hash + `","signature":"QUJD"`:                                   "parsing",
		`{"rootHash":"` + hash + `","signature":"QUJD","x":` + strings.Repeat("[", 20000): "parsing",
	} {
		got, err := ParseSignature([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || got != nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.200s: %+v, %v", text, got, err)
		}
	}
	if _, err := ParseSignature(make([]byte, maxSignaturePartition+1)); err == nil {
		t.Error("a large partition is taken")
	}
	for _, s := range []*Signature{{}, {RootHash: rootHash}, {RootHash: rootHash, PKCS7: []byte("x"), Fingerprint: []byte("y")},
		{RootHash: rootHash, PKCS7: make([]byte, maxSignaturePartition)}} {
		if _, err := s.Marshal(); err == nil {
			t.Errorf("%.20v is taken", s)
		}
	}
}

func TestParseRootHash(t *testing.T) {
	t.Parallel()
	hash := hex.EncodeToString(rootHash)
	for text, ok := range map[string]bool{
		hash: true, hash + "\n": true, strings.ToUpper(hash) + "\r\n": true, hash[:32]: true, hash + hash: true,
		"": false, "\n": false, hash[:30]: false, hash[:63]: false, hash + "\n" + hash: false, hash + hash + "00": false, "0x" + hash: false,
		hash + strings.Repeat(" ", 300): false,
	} {
		got, err := ParseRootHash([]byte(text))
		if (err == nil) != ok || ok && !strings.HasPrefix(hash+hash, hex.EncodeToString(got)) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
}

func FuzzSignature(f *testing.F) {
	id := newIdentity(f, p256...)
	text := hex.EncodeToString(rootHash)
	for _, options := range [][]string{plainOptions, {}, {"-nocerts"}} {
		der := id.sign(f, text, options...)
		f.Add(der)
		b, err := (&Signature{RootHash: rootHash, PKCS7: der}).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.TrimRight(b, "\x00"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSignature(b); err != nil && s != nil {
			t.Error("a signature comes with an error")
		} else if err == nil {
			if again, err := s.Marshal(); err != nil {
				t.Errorf("%q: %v", again, err)
			}
			_ = check(s.PKCS7, s.RootHash, id.certificate)
		}
		_ = check(b, rootHash, id.certificate)
		if _, err := ParseRootHash(b); err == nil && len(b) < 32 {
			t.Error("a short root hash")
		}
		_, _ = ParseCertificate(b)
	})
}
