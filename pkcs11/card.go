package pkcs11

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// A card is a token with a session on it.
type card struct {
	*device
	session uint64
}

// insert opens a session.
func (d *device) insert(ctx context.Context) (*card, error) {
	session, err := d.conn.session(ctx, d.slot)
	if err != nil {
		return nil, err
	}
	return &card{d, session}, nil
}

func (c *card) close(ctx context.Context) {
	if c.conn.broken == nil {
		_ = c.conn.closeSession(context.WithoutCancel(ctx), c.session)
	}
	c.device.close(ctx)
}

// An object is a key or a certificate as far as it tells about itself.
type object struct {
	handle    uint64
	class     uint64
	id, label string
	public    publicKey // of a public key or certificate; nil for private keys
	kind      uint64    // the type of key
	modulus   []byte    // of RSA; empty for unknown
	curve     []byte    // of an elliptic curve its name in DER; empty for unknown
}

// uri names the object on its token.
func (o object) uri(token URI) URI {
	return token.with("id", o.id).with("object", o.label)
}

// usable are the attributes by which a private key is known to do what is needed.
var usable = map[uint64]attributeKind{keyRSA: attrDecrypt, keyEC: attrDerive}

// privateKey finds the one private key that the URI and the secret fit. The error
// wraps [ErrNoKey] or [ErrSeveral].
func (c *card) privateKey(ctx context.Context, t *Token) (object, error) {
	template, err := privateTemplate(t.URI)
	if err != nil {
		return object{}, err
	}
	list, err := c.privateKeys(ctx, template)
	if err != nil {
		return object{}, err
	}
	var fit []object
	for _, o := range list {
		if o.fits(t) {
			fit = append(fit, o)
		}
	}
	switch len(fit) {
	case 0:
		return object{}, fmt.Errorf("%w: %s", ErrNoKey, c.uri())
	case 1:
		return fit[0], nil
	}
	return object{}, severalKeys(c.uri(), fit)
}

// privateTemplate is what to search for; a URI of another kind of object is no key.
func privateTemplate(u URI) ([]attribute, error) {
	if class, ok := u.get("type"); ok && class != "private" {
		return nil, fmt.Errorf("%w: type=%s is no private key", ErrURI, class)
	}
	return append(u.object(), number(attrClass, classPrivate)), nil
}

// privateKeys lists the private keys that can decrypt or derive.
func (c *card) privateKeys(ctx context.Context, template []attribute) ([]object, error) {
	handles, err := c.conn.find(ctx, c.session, template)
	if err != nil {
		return nil, err
	}
	var list []object
	for _, h := range handles {
		o := object{handle: h, class: classPrivate}
		err := c.read(ctx, h, func(a attributes) error {
			o.describe(a)
			allowed, ok := usable[o.kind]
			if !ok || !a.truth(allowed) {
				return errPassOver
			}
			return nil
		}, attrKeyType, attrDecrypt, attrDerive, attrID, attrLabel, attrModulus, attrECParams)
		switch {
		case err == nil:
			list = append(list, o)
		case !errors.Is(err, errPassOver):
			return nil, err
		}
	}
	return list, nil
}

// errPassOver marks an object that is not what is looked for.
var errPassOver = errors.New("another kind of object")

// read hands on what an object tells; what is in it is gone afterwards.
func (c *card) read(ctx context.Context, object uint64, use func(attributes) error, kinds ...attributeKind) error {
	a, answer, err := c.conn.attributes(ctx, c.session, object, kinds...)
	if err != nil {
		return err
	}
	defer answer.wipe()
	return use(a)
}

// describe takes what names the object and its key.
func (o *object) describe(a attributes) {
	o.id, o.label = string(a[attrID]), string(a[attrLabel])
	if kind, ok := a.number(attrKeyType); ok {
		o.kind = kind
	} else {
		o.kind = ^uint64(0)
	}
	o.modulus = bytes.Clone(bytes.TrimLeft(a[attrModulus], "\x00"))
	o.curve = bytes.Clone(a[attrECParams])
}

// fits tells whether a secret can have been made for this key.
func (o object) fits(t *Token) bool {
	if t.curve() {
		c, known := curveOf(o.curve)
		return o.kind == keyEC && (!known || c.field == (len(t.Key)-1)/2)
	}
	return o.kind == keyRSA && (len(o.modulus) == 0 || len(o.modulus) == len(t.Key))
}

// secret gets the secret back with a private key. The caller wipes it.
func (c *card) secret(ctx context.Context, key object, t *Token) (*secret.Bytes, error) {
	if t.curve() {
		return c.agree(ctx, key, t.Key)
	}
	m := mechanism{number: mechanismRSA}
	switch t.Padding {
	case OAEPSHA1:
		m = oaep(hashSHA1, mgf1SHA1)
	case OAEPSHA256:
		m = oaep(hashSHA256, mgf1SHA256)
	}
	s, err := c.conn.decrypt(ctx, c.session, key.handle, m, t.Key)
	if err != nil {
		return nil, fmt.Errorf("decrypting on the security token: %w", err)
	}
	return s, nil
}

// agree derives the secret that the private key shares with a point: the X
// coordinate as it is.
func (c *card) agree(ctx context.Context, key object, point []byte) (*secret.Bytes, error) {
	flags, err := c.conn.mechanism(ctx, c.slot, mechanismECDH)
	if err != nil {
		return nil, err
	}
	size := (len(point) - 1) / 2
	if flags&mechanismCompressed != 0 && flags&mechanismUncompressed == 0 {
		point = append([]byte{2 + point[len(point)-1]&1}, point[1:1+size]...)
	}
	h, err := c.conn.derive(ctx, c.session, key.handle, agreement(point), derivedTemplate)
	if errors.Is(err, codeMechanismParam) || errors.Is(err, codeArguments) {
		// Some modules want the point as an attribute has it.
		h, err = c.conn.derive(ctx, c.session, key.handle, agreement(octetString(point)), derivedTemplate)
	}
	if err != nil {
		return nil, fmt.Errorf("deriving on the security token: %w", err)
	}
	s, err := c.value(ctx, h, size)
	// It goes with the session at the latest.
	_ = c.conn.destroy(ctx, c.session, h)
	return s, err
}

// derivedTemplate is a key that lives as long as the session and can be read.
var derivedTemplate = []attribute{number(attrClass, classSecret), number(attrKeyType, keyGeneric),
	truth(attrToken, false), truth(attrSensitive, false), truth(attrExtractable, true)}

// value reads a derived key. Zeros at its beginning, which modules may leave out,
// belong to it.
func (c *card) value(ctx context.Context, handle uint64, size int) (s *secret.Bytes, err error) {
	err = c.read(ctx, handle, func(a attributes) error {
		v := a[attrValue]
		if len(v) == 0 || len(v) > size {
			return fmt.Errorf("%w: a shared secret of %d bytes instead of %d", ErrResponse, len(v), size)
		}
		s = secret.New(size)
		copy(s.Reveal()[size-len(v):], v)
		return nil
	}, attrValue)
	return s, err
}

// octetString wraps bytes as DER does.
func octetString(b []byte) []byte {
	if len(b) < 0x80 {
		return append([]byte{4, byte(len(b))}, b...)
	}
	return append([]byte{4, 0x81, byte(len(b))}, b...)
}

// A namedCurve is one whose points we can make.
type namedCurve struct {
	der   string // the name, an object identifier
	field int    // bytes of a coordinate
	curve ecdh.Curve
}

var curves = []namedCurve{
	{"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", 32, ecdh.P256()},
	{"\x06\x05\x2b\x81\x04\x00\x22", 48, ecdh.P384()},
	{"\x06\x05\x2b\x81\x04\x00\x23", 66, ecdh.P521()},
}

func curveOf(der []byte) (namedCurve, bool) {
	for _, c := range curves {
		if c.der == string(der) {
			return c, true
		}
	}
	return namedCurve{}, false
}

// errCurve refuses a curve that we have no arithmetic for.
var errCurve = fmt.Errorf("%w: elliptic curve other than P-256, P-384 and P-521", luks2.ErrUnsupported)
