package pkcs11

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lockport/lockport/pkcs11/pkcs11test"
	"github.com/lockport/lockport/secret/secrettest"
	"github.com/lockport/lockport/volume/volumetest"
)

func TestMain(m *testing.M) { secrettest.Main(m) }

const vectorDir = "../testdata/vectors"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sampleToken returns the token that systemd wrote, and the passphrase in it.
func sampleToken(t testing.TB, name string) (json.RawMessage, string) {
	t.Helper()
	var meta struct{ Tokens map[string]json.RawMessage }
	if err := json.Unmarshal(vector(t, name+".metadata.json"), &meta); err != nil {
		t.Fatal(err)
	}
	var vectors map[string]struct {
		Passphrases map[string]string `json:"slot_passphrases"`
	}
	// Not everything in the file has the shape of a volume.
	var all map[string]json.RawMessage
	if err := json.Unmarshal(vector(t, "vectors.json"), &all); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"`+name+`":`+string(all[name])+`}`), &vectors); err != nil {
		t.Fatal(err)
	}
	for _, text := range meta.Tokens {
		var head struct {
			Type     string
			Keyslots []string
		}
		if err := json.Unmarshal(text, &head); err != nil {
			t.Fatal(err)
		}
		if head.Type == TokenType {
			return text, vectors[name].Passphrases[head.Keyslots[0]]
		}
	}
	t.Fatalf("%s has no token of ours", name)
	return nil, ""
}

// library reaches the software tokens through the real p11-kit.
func library(t testing.TB, s *pkcs11test.SoftHSM) *Library {
	t.Helper()
	dial, err := Remote(s.Env)
	if err != nil {
		t.Fatal(err)
	}
	return &Library{Modules: []Module{{Name: "softhsm2", Path: s.Module}}, Dial: dial}
}

// needCurves skips where p11-kit can't pass on parameters of elliptic curves.
func needCurves(t testing.TB, l *Library) {
	t.Helper()
	c, err := l.start(t.Context(), l.Modules[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if c.version < versionCurves {
		t.Skip("this p11-kit is older than 0.25")
	}
}

func archive(release string) string { return filepath.Join(vectorDir, "softhsm-"+release+".tar.gz") }

// What systemd 252 enrolled with RSA, and 257 with an elliptic curve, opens.
func TestSamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		release string
		curve   bool
	}{{"252", false}, {"257", true}} {
		t.Run(c.release, func(t *testing.T) {
			t.Parallel()
			s := pkcs11test.NewSoftHSM(t, archive(c.release))
			l := library(t, s)
			token, want := sampleToken(t, "v"+c.release)
			k := &Key{Library: l}
			if c.curve {
				needCurves(t, l)
			}
			pass, err := k.Unlock(t.Context(), token, &volumetest.Asker{Answers: []string{"1234"}})
			defer pass.Wipe()
			if err != nil || string(pass.Reveal()) != want {
				t.Errorf("%v, right: %v", err, string(pass.Reveal()) == want)
			}
		})
	}
}

// An old p11-kit says so before anybody has to type.
func TestOldP11Kit(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("p11-kit"); err != nil {
		t.Skip("p11-kit is not installed")
	}
	l := library(t, pkcs11test.NewSoftHSM(t, archive("257")))
	c, err := l.start(t.Context(), l.Modules[0])
	if err != nil {
		t.Fatal(err)
	}
	version := c.version
	_ = c.close()
	if version >= versionCurves {
		t.Skip("this p11-kit is new enough")
	}
	token, _ := sampleToken(t, "v257")
	ask := &volumetest.Asker{}
	if _, err := (&Key{Library: l}).Unlock(t.Context(), token, ask); !errors.Is(err, ErrTooOld) || len(ask.Asked) > 0 {
		t.Errorf("%v, asked %d times", err, len(ask.Asked))
	}
}

// A token that SoftHSM learns of only at its start is found all the same.
func TestWaitRestartsModules(t *testing.T) {
	t.Parallel()
	s := pkcs11test.NewSoftHSM(t)
	token, want := sampleToken(t, "v252")
	k := &Key{Library: library(t, s), Wait: -1, Waiting: func([]string) { s.Add(archive("252")) }}
	pass, err := k.Unlock(t.Context(), token, &volumetest.Asker{Answers: []string{"1234"}})
	defer pass.Wipe()
	if err != nil || string(pass.Reveal()) != want {
		t.Errorf("%v", err)
	}
}
