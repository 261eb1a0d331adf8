package pkcs11

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// Enroller makes keyslots that open with a security token, and the tokens for them
// as systemd 257 writes them. It is not safe for concurrent use.
type Enroller struct {
	Library *Library
	URI     *URI    // of the token, or of a key or certificate on it; nil for the only one there is
	Padding Padding // of RSA; "" for what systemd of all releases reads, or else what the token can
	// Question, Tries, Failed and Touch are as for [Key]; the credential is that of
	// systemd-cryptenroll.
	Question volume.Question
	Tries    int
	Failed   func(err error)
	Touch    func(token string)

	found *device // by Check, for Enroll
}

var _ volume.Enroller = (*Enroller)(nil)

// TokenType is [TokenType].
func (*Enroller) TokenType() string { return TokenType }

// Check returns what Enroll would refuse before anybody is bothered: a URI that must
// not get into a header, no security token or several. The module that has the token
// runs on, for Enroll, until Close.
func (e *Enroller) Check(ctx context.Context) (err error) {
	e.Close(ctx)
	e.found, err = e.device(ctx)
	return err
}

// Close ends what Check began and no Enroll took over.
func (e *Enroller) Close(ctx context.Context) {
	if e.found != nil {
		e.found.close(ctx)
		e.found = nil
	}
}

// take returns the token that Check found, if it is still there, or looks for it.
func (e *Enroller) take(ctx context.Context) (*device, error) {
	if d := e.found; d != nil {
		e.found = nil
		t, err := d.conn.tokenInfo(ctx, d.slot)
		if err == nil && tokenURI(t).String() == d.uri().String() {
			d.token = t
			return d, nil
		}
		d.close(ctx)
	}
	return e.device(ctx)
}

// Enroll makes a secret and the token that brings it back. That it does is tried
// before it returns, as a later boot will do it, with the private key. The caller
// wipes the passphrase.
func (e *Enroller) Enroll(ctx context.Context, ask volume.Asker) (*secret.Bytes, json.RawMessage, error) {
	d, err := e.take(ctx)
	if err != nil {
		return nil, nil, err
	}
	c, err := d.insert(ctx)
	if err != nil {
		d.close(ctx)
		return nil, nil, err
	}
	defer c.close(ctx)
	l := &login{card: c, ask: ask, question: question(e.Question, "cryptenroll.pkcs11-pin"), tries: e.Tries, failed: e.Failed, touch: e.Touch}
	if err := l.run(ctx); err != nil {
		return nil, nil, err
	}
	return e.make(ctx, c)
}

// device finds the one security token that is meant.
func (e *Enroller) device(ctx context.Context) (*device, error) {
	if e.URI != nil && e.URI.HasPIN() {
		return nil, fmt.Errorf("%w, which everybody could read in the header", ErrPINInURI)
	}
	list, end, err := e.Library.all(ctx)
	list = slices.DeleteFunc(list, func(d *device) bool { return !e.meant(ctx, d) })
	switch len(list) {
	case 1:
		list[0].others = end
		return list[0], nil
	case 0:
		end()
		return nil, noToken(err)
	}
	end()
	several := &severalError{what: "security token"}
	for _, d := range list {
		several.list = append(several.list, d.uri().String())
	}
	return nil, several
}

func (e *Enroller) meant(ctx context.Context, d *device) bool {
	if e.URI == nil {
		return d.keeps()
	}
	var info moduleInfo
	if e.URI.hasAny(moduleAttributes) {
		info, _ = d.conn.info(ctx) // what is not told does not match
	}
	return e.URI.matches(d.slot, d.info, d.token) && e.URI.matchesModule(info)
}

// keeps tells a token that keeps something to itself from those that only have
// certificates for everybody.
func (d *device) keeps() bool {
	return d.info.flags&slotHardware != 0 || d.token.flags&(tokenLoginRequired|tokenProtectedPath) != 0
}

// make makes secret and token.
func (e *Enroller) make(ctx context.Context, c *card) (*secret.Bytes, json.RawMessage, error) {
	pair, err := e.pair(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	uri, err := e.stored(ctx, c, pair.private)
	if err != nil {
		return nil, nil, err
	}
	if _, curve := pair.public.(curveKey); curve && c.conn.version < versionCurves {
		return nil, nil, ErrTooOld
	}
	var failed []error
	for _, p := range e.paddings(ctx, c, pair.public) {
		s, data, err := pair.public.conceal(p)
		if err != nil {
			return nil, nil, err
		}
		t := &Token{URI: uri, Key: data, Padding: p}
		err = prove(ctx, c, t, s)
		if err == nil {
			text, err := t.marshal()
			defer s.Wipe()
			return passphrase(s), text, err
		}
		s.Wipe()
		failed = append(failed, fmt.Errorf("proving what was encrypted: %w", err))
		if c.conn.broken != nil {
			break
		}
	}
	return nil, nil, volume.Join(failed...)
}

// paddings lists what to try, the best first.
func (e *Enroller) paddings(ctx context.Context, c *card, k publicKey) []Padding {
	if _, ok := k.(rsaKey); !ok {
		return []Padding{PKCS1} // it has none, and none is what that means in a token
	}
	if e.Padding != "" {
		return []Padding{e.Padding}
	}
	plain, err := c.conn.mechanism(ctx, c.slot, mechanismRSA)
	if err == nil && plain&mechanismDecrypt == 0 {
		if better, err := c.conn.mechanism(ctx, c.slot, mechanismRSAOAEP); err == nil && better&mechanismDecrypt != 0 {
			return []Padding{OAEPSHA256, OAEPSHA1}
		}
	}
	return []Padding{PKCS1}
}

// prove gets the secret back as a later boot will, and compares.
func prove(ctx context.Context, c *card, t *Token, want *secret.Bytes) error {
	key, err := c.privateKey(ctx, t)
	if err != nil {
		return err
	}
	got, err := c.secret(ctx, key, t)
	if err != nil {
		return err
	}
	defer got.Wipe()
	if !got.Equal(want) {
		return errors.New("another secret comes back")
	}
	return nil
}

// A pair is a public key and the private key that it belongs to.
type pair struct {
	public  publicKey
	private object
}

// pair finds the one that is meant. The URI may name either half, or a certificate.
func (e *Enroller) pair(ctx context.Context, c *card) (pair, error) {
	var u URI
	if e.URI != nil {
		u = *e.URI
	}
	private, err := c.privateKeys(ctx, []attribute{number(attrClass, classPrivate)})
	if err != nil {
		return pair{}, err
	}
	public, err := c.publicKeys(ctx, u)
	if err != nil {
		return pair{}, err
	}
	if len(public) == 0 && u.hasAny(objectAttributes) {
		// It may be the private key's label, and its other half have another one.
		private, public, err = c.byPrivateKey(ctx, u)
		if err != nil {
			return pair{}, err
		}
	}
	return choosePair(c.uri(), public, private)
}

func (c *card) byPrivateKey(ctx context.Context, u URI) (private, public []object, err error) {
	template, err := privateTemplate(u)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoKey, u)
	}
	if private, err = c.privateKeys(ctx, template); err == nil {
		public, err = c.publicKeys(ctx, URI{})
	}
	return private, public, err
}

// choosePair wants exactly one private key that a public one belongs to. A public
// key and a certificate of it are one.
func choosePair(token URI, public, private []object) (pair, error) {
	var fit []object
	var found pair
	for _, o := range private {
		names := map[string]bool{}
		for _, p := range public {
			if !p.public.belongs(o) || p.id != "" && o.id != "" && p.id != o.id {
				continue
			}
			names[p.public.name()] = true
			if len(names) == 1 {
				found = pair{p.public, o}
			}
		}
		if len(names) > 1 {
			return pair{}, &severalError{"public key", []string{o.uri(token).String()}}
		}
		if len(names) == 1 {
			fit = append(fit, o)
		}
	}
	switch len(fit) {
	case 0:
		return pair{}, fmt.Errorf("%w: %s has no private key that can decrypt or derive, with a public key or certificate to it", ErrNoKey, token)
	case 1:
		return found, nil
	}
	return pair{}, severalKeys(token, fit)
}

// stored is the URI for the header. It is what was given, or names the token alone,
// as long as that leads to the one private key; otherwise it names the key as well.
// What systemd looks for is a private key, so that is what a type has to be.
func (e *Enroller) stored(ctx context.Context, c *card, private object) (URI, error) {
	u := c.uri()
	if e.URI != nil {
		u = *e.URI
	}
	if u.has("type") {
		u = u.with("type", "private")
	}
	for _, u := range []URI{u, u.with("object", "").with("id", private.id), private.uri(u)} {
		list, err := c.privateKeys(ctx, append(u.object(), number(attrClass, classPrivate)))
		if err != nil {
			return URI{}, err
		}
		if len(list) == 1 && list[0].handle == private.handle {
			return u, nil
		}
	}
	return URI{}, severalKeys(c.uri(), []object{private})
}
