package pkcs11

import (
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/lockport/lockport/pkcs11/pkcs11test"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume/volumetest"
)

// scripted answers with fixed bytes, whatever is asked.
type scripted struct{ answers []byte }

func (s *scripted) Read(b []byte) (int, error) {
	if len(s.answers) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.answers)
	s.answers = s.answers[n:]
	return n, nil
}
func (*scripted) Write(b []byte) (int, error) { return len(b), nil }
func (*scripted) Close() error                { return nil }

// recorded is all that a module answers while a keyslot is unlocked.
func recorded(f *testing.F) []byte {
	key := keysOnce().a
	private, public := pkcs11test.RSA(key, "01", "key")
	r := withToken(1, card1(), private, public)
	all := []byte{1}
	r.Answer = func(_ uint32, m []byte) []byte {
		all = append(all, m...)
		return m
	}
	s, data, err := rsaKey{&key.PublicKey}.conceal(PKCS1)
	if err != nil {
		f.Fatal(err)
	}
	s.Wipe()
	t := &Token{URI: *mustURI(f, cardURI), Key: data, Padding: PKCS1}
	k := &Key{Library: fake(r)}
	pass, err := k.one(context.Background(), t, &volumetest.Asker{Answers: []string{"1234"}})
	if err != nil {
		f.Fatal(err)
	}
	pass.Wipe()
	return all
}

// Whatever a module answers, an unlock and an enrolment end, and nothing is kept.
func FuzzModule(f *testing.F) {
	f.Add(recorded(f))
	f.Add([]byte{2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, answers []byte) {
		l := &Library{Modules: []Module{{Name: "fuzz"}}, machine: time.Second, person: time.Second,
			Dial: func(context.Context, Module) (io.ReadWriteCloser, error) { return &scripted{answers}, nil }}
		before := len(secret.Live())
		u := *mustURI(t, "pkcs11:")
		for _, key := range [][]byte{make([]byte, 256), append([]byte{4}, make([]byte, 64)...)} {
			pass, _ := (&Key{Library: l}).one(t.Context(), &Token{URI: u, Key: key, Padding: PKCS1}, &volumetest.Asker{Answers: []string{"1234", "1"}})
			pass.Wipe()
		}
		pass, _, _ := (&Enroller{Library: l, URI: &u}).Enroll(t.Context(), &volumetest.Asker{Answers: []string{"1234"}})
		pass.Wipe()
		_, _ = l.List(t.Context())
		if after := len(secret.Live()); after > before {
			t.Errorf("%d secrets are left", after-before)
		}
	})
}

func FuzzURI(f *testing.F) {
	f.Add(cardURI + ";id=%01;object=a%20b;type=private?pin-value=1&module-path=x")
	f.Add("pkcs11:slot-id=7;library-version=1.2")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if len(u.String()) > maxURI {
			return // escapes make it longer
		}
		if err != nil || again.String() != u.String() {
			t.Errorf("%q became %q: %v", u, again, err)
		}
		_ = u.matches(1, slotInfo{}, tokenInfo{})
		_ = append(u.object(), attribute{})
	})
}

func FuzzToken(f *testing.F) {
	for _, name := range []string{"v252", "v257"} {
		text, _ := sampleToken(f, name)
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tok, err := ParseToken(text)
		if err != nil {
			return
		}
		out, err := tok.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseToken(out)
		if len(tok.URI.String()) > maxURI {
			return
		}
		if err != nil || again.curve() != tok.curve() || !json.Valid(out) {
			t.Errorf("%s: %v", out, err)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("# a\nmodule: a.so\npriority: 3\nenable-in: a, b\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		fields, err := parseConfig(text)
		if err == nil {
			_ = Config{Programs: []string{"lockport"}}.enabled(fields)
		}
	})
}
