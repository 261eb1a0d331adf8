package verity

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// What is signed here, openssl and our own check accept, and only for its own
// root hash. With RSA there is one signature, and so it is openssl's.
func TestSign(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string][]string{
		"rsa":         {"rsa:2048"},
		"ec":          {"ec", "-pkeyopt", "ec_paramgen_curve:P-384"},
		"traditional": {"rsa:2048"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := newIdentity(t, kind...)
			if name == "traditional" {
				mustRun(t, "openssl", "rsa", "-traditional", "-in", id.file("key"), "-out", id.file("key"))
			}
			text, err := os.ReadFile(id.file("key"))
			if err != nil {
				t.Fatal(err)
			}
			key, err := ParsePrivateKey(text)
			if err != nil {
				t.Fatal(err)
			}
			der, err := Sign(rootHash, key, id.certificate)
			if err != nil {
				t.Fatal(err)
			}
			if err := check(der, rootHash, id.certificate); err != nil {
				t.Error(err)
			}
			if err := check(der, rootHash[:31], id.certificate); err == nil {
				t.Error("it is good for another root hash")
			}
			if again, err := Sign(rootHash, key, id.certificate); err != nil || !bytes.Equal(der, again) {
				t.Error("signed twice, the bytes differ", err)
			}
			digits := hex.EncodeToString(rootHash)
			if theirs := id.sign(t, digits, "-nocerts", "-noattr"); name != "ec" && !bytes.Equal(der, theirs) {
				t.Errorf("openssl's is\n%x, and ours\n%x", theirs, der)
			}
			if err := os.WriteFile(id.file("ours"), der, 0o600); err != nil {
				t.Fatal(err)
			}
			mustRun(t, "openssl", "smime", "-verify", "-binary", "-inform", "der", "-in", id.file("ours"), "-content", id.file("text"),
				"-certfile", id.file("crt"), "-nointern", "-noverify", "-out", id.file("out"))
			if _, err := Sign(rootHash, key, newIdentity(t, kind...).certificate); err == nil || !strings.Contains(err.Error(), "not that of the certificate") {
				t.Error(err)
			}
		})
	}
}

func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "no PEM private key",
		"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n":                     "no PEM private key",
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n": "encrypted",
		"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n":                     "parsing",
		// Ed25519, which the kernel does not take for a root hash.
		"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n": "type ed25519",
	} {
		if _, err := ParsePrivateKey([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
