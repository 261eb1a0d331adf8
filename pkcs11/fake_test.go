package pkcs11

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockport/lockport/pkcs11/pkcs11test"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
	"github.com/lockport/lockport/volume/volumetest"
)

// keysOnce makes keys that tests share: making RSA keys takes time.
var keysOnce = sync.OnceValue(func() (k struct{ a, b *rsa.PrivateKey }) {
	var errs [2]error
	k.a, errs[0] = rsa.GenerateKey(rand.Reader, 2048)
	k.b, errs[1] = rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(errs[:]...); err != nil {
		panic(err)
	}
	return k
})

func curvePrivate(t testing.TB, c ecdh.Curve) *ecdh.PrivateKey {
	t.Helper()
	k, err := c.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fake reaches modules in this process.
func fake(remotes ...*pkcs11test.Remote) *Library {
	l := &Library{machine: 20 * time.Second, person: 20 * time.Second}
	for i := range remotes {
		l.Modules = append(l.Modules, Module{Name: fmt.Sprint(i)})
	}
	l.Dial = func(_ context.Context, m Module) (io.ReadWriteCloser, error) {
		var i int
		_, err := fmt.Sscan(m.Name, &i)
		return remotes[i].Dial(), err
	}
	return l
}

// withToken is a module with one token.
func withToken(version byte, t *pkcs11test.Token, objects ...pkcs11test.Object) *pkcs11test.Remote {
	if t.Tries == 0 {
		t.Tries = 3
	}
	t.Objects = append(t.Objects, objects...)
	r := &pkcs11test.Remote{Version: version}
	r.Put(t)
	return r
}

func card1() *pkcs11test.Token {
	return &pkcs11test.Token{Label: "card", Serial: "1", PIN: "1234", Flags: pkcs11test.LoginRequired, Hardware: true}
}

func mustURI(t testing.TB, text string) *URI {
	t.Helper()
	u, err := ParseURI(text)
	if err != nil {
		t.Fatal(err)
	}
	return &u
}

// cycle enrols and unlocks what comes out of that.
func cycle(t *testing.T, e *Enroller) (*Token, error) {
	t.Helper()
	pass, text, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: []string{"1234"}})
	defer pass.Wipe()
	if err != nil {
		return nil, err
	}
	again, err := (&Key{Library: e.Library}).Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{"1234"}})
	defer again.Wipe()
	if err != nil || !again.Equal(pass) {
		t.Errorf("%s unlocks: %v", text, err)
	}
	tok, err := ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok, nil
}

const cardURI = "pkcs11:model=model;manufacturer=maker;serial=1;token=card"

// All kinds of keys, through all versions of the protocol.
func TestEnrollAndUnlock(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	private, public := pkcs11test.RSA(k.a, "01", "key")
	certificate := pkcs11test.Certificate(k.a, "01", "cert of key")
	p256, p256public := pkcs11test.EC(curvePrivate(t, ecdh.P256()), "02", "curve")
	p384, p384public := pkcs11test.EC(curvePrivate(t, ecdh.P384()), "02", "curve")
	p521, p521public := pkcs11test.EC(curvePrivate(t, ecdh.P521()), "02", "curve")
	objects := func(o ...pkcs11test.Object) []pkcs11test.Object { return o }
	for _, c := range []struct {
		name    string
		objects []pkcs11test.Object
		change  func(*pkcs11test.Token)
		uri     string
		padding Padding
		want    string // URI in the token
		padded  Padding
		size    int
	}{
		{name: "public key", objects: objects(private, public), want: cardURI, size: 256},
		{name: "certificate", objects: objects(private, certificate), want: cardURI, size: 256},
		{name: "both", objects: objects(certificate, private, public), want: cardURI, size: 256},
		{name: "by certificate", objects: objects(certificate, private), uri: "pkcs11:token=card;object=cert%20of%20key;type=cert",
			want: "pkcs11:token=card;id=%01;type=private", size: 256},
		{name: "by private key", objects: objects(certificate, private), uri: "pkcs11:token=card;object=key;type=private",
			want: "pkcs11:token=card;object=key;type=private", size: 256},
		{name: "OAEP", objects: objects(private, public), padding: OAEPSHA256, want: cardURI, padded: OAEPSHA256, size: 256},
		{name: "OAEP with SHA-1", objects: objects(private, public), padding: OAEPSHA1, want: cardURI, padded: OAEPSHA1, size: 256},
		{name: "OAEP alone", objects: objects(private, public), change: func(t *pkcs11test.Token) { t.NoPKCS1 = true }, want: cardURI,
			padded: OAEPSHA256, size: 256},
		{name: "OAEP with SHA-1 alone", objects: objects(private, public),
			change: func(t *pkcs11test.Token) { t.NoPKCS1, t.OnlySHA1 = true, true }, want: cardURI, padded: OAEPSHA1, size: 256},
		{name: "P-256", objects: objects(p256, p256public), want: cardURI, size: 65},
		{name: "P-384", objects: objects(p384, p384public), want: cardURI, size: 97},
		{name: "P-521", objects: objects(p521, p521public), want: cardURI, size: 133},
		{name: "compressed points", objects: objects(p256, p256public), change: func(t *pkcs11test.Token) { t.Compressed = true }, want: cardURI, size: 65},
		{name: "wrapped points", objects: objects(p521, p521public), change: func(t *pkcs11test.Token) { t.Wrapped = true }, want: cardURI, size: 133},
		{name: "RSA of both", objects: objects(private, public, p256, p256public), uri: "pkcs11:serial=1;id=%01", want: "pkcs11:serial=1;id=%01", size: 256},
		{name: "curve of both", objects: objects(private, public, p256, p256public), uri: "pkcs11:object=curve;type=public",
			want: "pkcs11:object=curve;type=private", size: 65},
		{name: "no login", objects: objects(private, public), change: func(t *pkcs11test.Token) { t.Flags = 0 }, want: cardURI, size: 256},
	} {
		for version := range byte(3) {
			if version == 0 && c.size%2 == 1 {
				continue
			}
			t.Run(fmt.Sprint(c.name, ", version ", version), func(t *testing.T) {
				t.Parallel()
				card := card1()
				if c.change != nil {
					c.change(card)
				}
				e := &Enroller{Library: fake(withToken(version, card, c.objects...)), Padding: c.padding}
				if c.uri != "" {
					e.URI = mustURI(t, c.uri)
				}
				tok, err := cycle(t, e)
				if err != nil {
					t.Fatal(err)
				}
				if c.padded == "" {
					c.padded = PKCS1
				}
				if tok.URI.String() != c.want || tok.Padding != c.padded || len(tok.Key) != c.size {
					t.Errorf("%s, %s, %d bytes", tok.URI, tok.Padding, len(tok.Key))
				}
			})
		}
	}
}

// A shared secret that begins with a zero byte is not shorter for that.
func TestStrippedSecret(t *testing.T) {
	t.Parallel()
	key := curvePrivate(t, ecdh.P256())
	card := card1()
	card.Stripped = true
	private, _ := pkcs11test.EC(key, "01", "key")
	l := fake(withToken(1, card, private))
	for {
		k := curveKey{key.PublicKey(), curves[0]}
		s, point, err := k.conceal(PKCS1)
		if err != nil {
			t.Fatal(err)
		}
		if s.Reveal()[0] != 0 { // one in 256 is what we want
			s.Wipe()
			continue
		}
		want := passphrase(s)
		s.Wipe()
		defer want.Wipe()
		text, err := (&Token{URI: *mustURI(t, cardURI), Key: point, Padding: PKCS1}).marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&Key{Library: l}).Unlock(t.Context(), text, &volumetest.Asker{Answers: []string{"1234"}})
		defer got.Wipe()
		if err != nil || !got.Equal(want) {
			t.Errorf("another secret, %v", err)
		}
		return
	}
}

// What is not clear is refused, with what there is to choose from.
func TestEnrollRefuses(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	a, aPublic := pkcs11test.RSA(k.a, "01", "first")
	b, bPublic := pkcs11test.RSA(k.b, "02", "second")
	other := card1()
	other.Label, other.Serial = "other", "2"
	signing, signingPublic := pkcs11test.RSA(k.a, "03", "signs")
	signing.Attributes[0x105] = []byte{0}
	for _, c := range []struct {
		name    string
		modules []*pkcs11test.Remote
		uri     string
		want    error
		text    string
	}{
		{"two keys", []*pkcs11test.Remote{withToken(1, card1(), a, aPublic, b, bPublic)}, "", ErrSeveral,
			"more than one private key fits: " + cardURI + ";id=%01;object=first, " + cardURI + ";id=%02;object=second"},
		{"two tokens", []*pkcs11test.Remote{withToken(1, card1(), a, aPublic), withToken(1, other, b, bPublic)}, "", ErrSeveral,
			"more than one security token fits: " + cardURI + ", pkcs11:model=model;manufacturer=maker;serial=2;token=other"},
		{"no token", []*pkcs11test.Remote{{Version: 1}}, "", ErrNoToken, "the security token is not there"},
		{"another token", []*pkcs11test.Remote{withToken(1, card1(), a, aPublic)}, "pkcs11:serial=3", ErrNoToken, "not there"},
		{"another library", []*pkcs11test.Remote{withToken(1, card1(), a, aPublic)}, "pkcs11:library-version=1.8", ErrNoToken, "not there"},
		{"another slot", []*pkcs11test.Remote{withToken(1, card1(), a, aPublic)}, "pkcs11:slot-id=1", ErrNoToken, "not there"},
		{"another key", []*pkcs11test.Remote{withToken(1, card1(), a, aPublic)}, "pkcs11:object=third", ErrNoKey, "no fitting key"},
		{"no private key", []*pkcs11test.Remote{withToken(1, card1(), aPublic, b)}, "", ErrNoKey, "no fitting key"},
		{"a key that only signs", []*pkcs11test.Remote{withToken(1, card1(), signing, signingPublic)}, "", ErrNoKey, "no fitting key"},
		{"no public key", []*pkcs11test.Remote{withToken(1, card1(), a)}, "", ErrNoKey, "no fitting key"},
		{"a PIN", []*pkcs11test.Remote{withToken(1, card1(), a, aPublic)}, "pkcs11:token=card?pin-value=1234", ErrPINInURI, "has a PIN in it"},
		{"no modules", nil, "", ErrNoModules, "no PKCS#11 module"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &Enroller{Library: fake(c.modules...)}
			if c.uri != "" {
				e.URI = mustURI(t, c.uri)
			}
			pass, _, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: []string{"1234"}})
			pass.Wipe()
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

// By id or label, each of two keys can be enrolled; also if they have no id.
func TestSeveralKeys(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	a, aPublic := pkcs11test.RSA(k.a, "01", "same")
	b, bPublic := pkcs11test.RSA(k.b, "02", "same")
	l := fake(withToken(1, card1(), a, aPublic, b, bPublic))
	for _, c := range []struct{ uri, want string }{
		{"pkcs11:token=card;id=%02", "pkcs11:token=card;id=%02"},
		{"pkcs11:token=card;id=%01;object=same", "pkcs11:token=card;id=%01;object=same"},
	} {
		tok, err := cycle(t, &Enroller{Library: l, URI: mustURI(t, c.uri)})
		if err != nil || tok.URI.String() != c.want {
			t.Errorf("%s: %v", c.uri, err)
		}
	}
	if _, err := cycle(t, &Enroller{Library: l, URI: mustURI(t, "pkcs11:object=same")}); !errors.Is(err, ErrSeveral) {
		t.Errorf("%v", err)
	}
}

// sealed makes a token of a header for a key.
func sealed(t *testing.T, uri string, key *rsa.PrivateKey) []byte {
	t.Helper()
	s, data, err := rsaKey{&key.PublicKey}.conceal(PKCS1)
	if err != nil {
		t.Fatal(err)
	}
	s.Wipe()
	text, err := (&Token{URI: *mustURI(t, uri), Key: data, Padding: PKCS1}).marshal()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPINs(t *testing.T) {
	t.Parallel()
	key := keysOnce().a
	private, _ := pkcs11test.RSA(key, "01", "key")
	for _, c := range []struct {
		name   string
		change func(*pkcs11test.Token)
		from   volume.Source
		pins   []string
		tries  int
		want   error
		asked  []string // parts of the messages
		logins int
	}{
		{name: "right", pins: []string{"1234"}, asked: []string{"security token card:"}, logins: 1},
		{name: "wrong once", pins: []string{"0", "1234"}, asked: []string{"token card:", "card (a wrong PIN was entered before, few tries are left):"}, logins: 2},
		{name: "wrong twice", pins: []string{"0", "1", "1234"}, asked: []string{"", "few tries", "card (the last try before it locks):"}, logins: 3},
		{name: "wrong for good", pins: []string{"0", "1", "2", "1234"}, want: volume.ErrTries, asked: []string{"", "", ""}, logins: 3},
		{name: "tries", change: func(t *pkcs11test.Token) { t.Tries = 9 }, pins: []string{"0", "1", "1234"}, tries: 2, want: volume.ErrTries,
			asked: []string{"", ""}, logins: 2},
		{name: "locked", change: func(t *pkcs11test.Token) { t.Flags |= pkcs11test.Locked }, pins: []string{"1234"}, want: ErrLocked},
		{name: "locks", change: func(t *pkcs11test.Token) { t.Tries = 2 }, pins: []string{"0", "1", "1234"}, want: ErrLocked, asked: []string{"", "last try"}, logins: 2},
		{name: "from the environment", from: volume.FromEnvironment, pins: []string{"0", "1234"}, want: ErrPIN, asked: []string{""}, logins: 1},
		{name: "empty", pins: []string{"", "1234"}, asked: []string{"", "card:"}, logins: 1},
		{name: "too long", pins: []string{strings.Repeat("1", 300), "1234"}, asked: []string{"", "card:"}, logins: 1},
		{name: "nobody there", want: volume.ErrNoAnswer, asked: []string{""}},
		{name: "at the token", change: func(t *pkcs11test.Token) { t.Flags |= pkcs11test.ProtectedPath }, logins: 1},
		{name: "no login", change: func(t *pkcs11test.Token) { t.Flags = 0 }},
		{name: "odd name", change: func(t *pkcs11test.Token) { t.Label = "\x1b[31mred" }, pins: []string{"1234"}, asked: []string{`token "\x1b[31mred":`}, logins: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			card := card1()
			if c.change != nil {
				c.change(card)
			}
			ask := &volumetest.Asker{Answers: c.pins, From: c.from}
			touched, failed := 0, 0
			k := &Key{Library: fake(withToken(1, card, private)), Tries: c.tries, Touch: func(string) { touched++ }, Failed: func(error) { failed++ }}
			pass, err := k.Unlock(t.Context(), sealed(t, "pkcs11:serial=1", key), ask)
			pass.Wipe()
			if !errors.Is(err, c.want) {
				t.Errorf("%v", err)
			}
			if len(ask.Asked) != len(c.asked) || card.Logins != c.logins || (touched > 0) != (c.name == "at the token") {
				t.Errorf("asked %d times, %d logins, touched %d times, told %d times", len(ask.Asked), card.Logins, touched, failed)
			}
			for i, q := range ask.Asked[:min(len(ask.Asked), len(c.asked))] {
				last := strings.Contains(q.Message, "last try")
				if !strings.Contains(q.Message, c.asked[i]) || q.Env != "PIN" || q.Cache != "" || (q.Credential == "") != last ||
					!strings.HasPrefix(q.ID, "pkcs11:pkcs11:model=") || q.Attempt != i {
					t.Errorf("%+v", q)
				}
			}
		})
	}
}

// Several keyslots of one card cost one login: a PIN that is wrong is not tried once
// for each, and one that is right does for all.
func TestOneLogin(t *testing.T) {
	t.Parallel()
	k := keysOnce()
	private, _ := pkcs11test.RSA(k.a, "01", "key")
	var list []*Token
	for _, key := range []*rsa.PrivateKey{k.b, k.b, k.a} {
		token, err := ParseToken(sealed(t, cardURI, key))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, token)
	}
	for _, c := range []struct {
		ask    *volumetest.Asker
		failed int
		tries  int
		used   []int
	}{
		{&volumetest.Asker{Answers: []string{"0", "1234"}, From: volume.FromEnvironment}, 1, 2, nil},
		{&volumetest.Asker{Answers: []string{"0"}, From: volume.FromCredential}, 1, 2, nil},
		{&volumetest.Asker{Answers: []string{"1234"}}, 0, 3, []int{2}},
	} {
		card := card1()
		var used []int
		failed := (&Key{Library: fake(withToken(1, card, private))}).unlock(t.Context(), list, 0, c.ask, func(i int, _ *secret.Bytes) error {
			used = append(used, i)
			return nil
		})
		if len(failed) != c.failed || card.Tries != c.tries || !slices.Equal(used, c.used) {
			t.Errorf("%q: %v, %d tries left, used %d", c.ask.Answers, failed, card.Tries, used)
		}
		if c.failed > 0 && !slices.Equal(failed[0].tokens, []int{0, 1, 2}) {
			t.Errorf("%q: %v", c.ask.Answers, failed)
		}
	}
}

// What else was in an answer is not used up on the last try.
func TestLastTryIsForPerson(t *testing.T) {
	t.Parallel()
	key := keysOnce().a
	private, _ := pkcs11test.RSA(key, "01", "key")
	card := card1()
	ask := several{{"0", "1", "2"}, {"1234"}}
	pass, err := (&Key{Library: fake(withToken(1, card, private)), Tries: 5}).Unlock(t.Context(), sealed(t, cardURI, key), &ask)
	pass.Wipe()
	if err != nil || card.Logins != 3 {
		t.Errorf("%v after %d logins", err, card.Logins)
	}
}

// several answers with more than one secret at a time.
type several [][]string

func (s *several) Ask(context.Context, volume.Question) (volume.Answer, error) {
	a := volume.Answer{From: volume.FromCredential}
	for _, text := range (*s)[0] {
		a.Secrets = append(a.Secrets, secret.Copy([]byte(text)))
	}
	*s = (*s)[1:]
	return a, nil
}

// A token that is put in while we wait is found; one that is there is not waited for.
func TestWait(t *testing.T) {
	t.Parallel()
	key := keysOnce().a
	private, _ := pkcs11test.RSA(key, "01", "key")
	card := card1()
	card.Tries, card.Objects = 3, []pkcs11test.Object{private}
	r := &pkcs11test.Remote{Version: 1}
	var waited []string
	k := &Key{Library: fake(&pkcs11test.Remote{Version: 1}, r), Wait: -1, Waiting: func(tokens []string) {
		waited = append(waited, tokens...)
		r.Put(card)
	}}
	pass, err := k.Unlock(t.Context(), sealed(t, cardURI, key), &volumetest.Asker{Answers: []string{"1234"}})
	pass.Wipe()
	if err != nil || !slices.Equal(waited, []string{cardURI}) {
		t.Errorf("%v, waited for %q", err, waited)
	}
	k.Wait = time.Millisecond
	k.Library = fake(&pkcs11test.Remote{Version: 1})
	if _, err := k.Unlock(t.Context(), sealed(t, cardURI, key), nil); !errors.Is(err, ErrNoToken) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	k.Wait, k.Waiting = -1, func([]string) { cancel() }
	if _, err := k.Unlock(ctx, sealed(t, cardURI, key), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// The module that is preferred counts, unless a serial number leaves no choice; and
// a module that hangs keeps no other from being used then.
func TestModules(t *testing.T) {
	t.Parallel()
	key := keysOnce().a
	private, _ := pkcs11test.RSA(key, "01", "key")
	first, second := card1(), card1()
	first.Label, second.Label = "first", "second"
	l := fake(withToken(1, first, private), withToken(1, second, private))
	for range 5 {
		_, d, err := l.find(t.Context(), []URI{*mustURI(t, "pkcs11:manufacturer=maker")}, 0, nil)
		if err != nil || d.token.label != "first" {
			t.Fatalf("%v", err)
		}
		d.close(t.Context())
	}
	silent := &pkcs11test.Remote{Version: 1, Answer: func(uint32, []byte) []byte { return []byte{} }}
	l = fake(silent, withToken(1, card1(), private))
	_, d, err := l.find(t.Context(), []URI{*mustURI(t, cardURI)}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.close(t.Context())
}

func TestList(t *testing.T) {
	t.Parallel()
	trust := &pkcs11test.Token{Label: "certificates"}
	soft := card1()
	soft.Hardware, soft.Label = false, "soft\n"
	got, err := fake(withToken(1, card1()), withToken(1, trust), withToken(1, soft)).List(t.Context())
	want := []Found{{cardURI, "card", "maker", "model", true},
		{"pkcs11:model=model;manufacturer=maker;serial=1;token=soft%0A", `"soft\n"`, "maker", "model", false}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// No call of ours carries the PIN but Login, and none is made twice for nothing.
func TestCalls(t *testing.T) {
	t.Parallel()
	key := keysOnce().a
	private, _ := pkcs11test.RSA(key, "01", "key")
	r := withToken(1, card1(), private)
	pass, err := (&Key{Library: fake(r)}).Unlock(t.Context(), sealed(t, cardURI, key), &volumetest.Asker{Answers: []string{"1234"}})
	pass.Wipe()
	want := []uint32{1, 4, 4, 6, 5, 10, 18, 26, 27, 27, 28, 24, 33, 34, 11, 2}
	if calls := r.Calls(); err != nil || !slices.Equal(calls, want) {
		t.Errorf("%v, %v", calls, err)
	}
}

// Enroll goes on with the module that Check started, but looks again for a token that
// was changed for another one meanwhile, or if the module has ended. Nothing is left
// running in the end.
func TestCheckThenEnroll(t *testing.T) {
	t.Parallel()
	key := keysOnce().a
	for _, c := range []struct {
		name  string
		dials int
		text  string // of the error
	}{
		{"at once", 1, ""},
		{"another token", 2, ErrNoToken.Error()},
		{"module has ended", 2, ""},
		{"given up", 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			private, public := pkcs11test.RSA(key, "01", "key")
			card := card1()
			r := withToken(1, card, private, public)
			e := &Enroller{Library: fake(r), URI: mustURI(t, cardURI)}
			dial, open := e.Library.Dial, []*watched{}
			e.Library.Dial = func(ctx context.Context, m Module) (io.ReadWriteCloser, error) {
				rw, err := dial(ctx, m)
				w := &watched{ReadWriteCloser: rw}
				open = append(open, w)
				return w, err
			}
			if err := e.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			switch c.name {
			case "another token":
				card.Serial = "2"
			case "module has ended":
				_ = open[0].ReadWriteCloser.Close()
			case "given up":
				e.Close(t.Context())
			}
			if c.name != "given up" {
				pass, _, err := e.Enroll(t.Context(), &volumetest.Asker{Answers: []string{"1234"}})
				pass.Wipe()
				if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
					t.Errorf("%v", err)
				}
			}
			if len(open) != c.dials {
				t.Errorf("%d modules were started", len(open))
			}
			for _, w := range open {
				if !w.closed.Load() {
					t.Error("a module is left running")
				}
			}
		})
	}
}

// watched remembers that it was closed.
type watched struct {
	io.ReadWriteCloser
	closed atomic.Bool
}

func (w *watched) Close() error {
	w.closed.Store(true)
	return w.ReadWriteCloser.Close()
}
