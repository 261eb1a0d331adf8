package fido2test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"github.com/fxamacker/cbor/v2"
)

const (
	algES256 = -7
	algEdDSA = -8
)

// credential is what a credential's ID has wrapped in it.
type credential struct {
	Alg       int    `cbor:"1,keyasint"`
	Private   []byte `cbor:"2,keyasint"`
	WithUV    []byte `cbor:"3,keyasint"` // the secret for verified users
	WithoutUV []byte `cbor:"4,keyasint"`
	Protect   uint64 `cbor:"5,keyasint"`
}

func (k *Key) gcm() cipher.AEAD {
	c, err := aes.NewCipher(k.s.Master)
	if err != nil {
		panic(err)
	}
	g, err := cipher.NewGCM(c)
	if err != nil {
		panic(err)
	}
	return g
}

// wrap makes the ID of a credential, good for one relying party.
func (k *Key) wrap(c *credential, rp string) []byte {
	b, err := encoding.Marshal(c)
	if err != nil {
		panic(err)
	}
	g := k.gcm()
	nonce := random(g.NonceSize())
	return g.Seal(nonce, nonce, b, []byte(rp))
}

// unwrap returns nil for what is none of ours.
func (k *Key) unwrap(id []byte, rp string) *credential {
	g := k.gcm()
	if len(id) < g.NonceSize() {
		return nil
	}
	b, err := g.Open(nil, id[:g.NonceSize()], id[g.NonceSize():], []byte(rp))
	if err != nil {
		return nil
	}
	c := &credential{}
	if decoding.Unmarshal(b, c) != nil {
		return nil
	}
	return c
}

func newCredential(alg int) *credential {
	c := &credential{Alg: alg, WithUV: random(32), WithoutUV: random(32)}
	switch alg {
	case algES256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		if c.Private, err = private.Bytes(); err != nil {
			panic(err)
		}
	case algEdDSA:
		c.Private = random(ed25519.SeedSize)
	}
	return c
}

func (c *credential) ecdsa() *ecdsa.PrivateKey {
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), c.Private)
	if err != nil {
		panic(err)
	}
	return private
}

// public is the public key in COSE form.
func (c *credential) public() map[int]any {
	if c.Alg == algEdDSA {
		public := ed25519.NewKeyFromSeed(c.Private).Public().(ed25519.PublicKey)
		return map[int]any{1: 1, 3: algEdDSA, -1: 6, -2: []byte(public)}
	}
	b, err := c.ecdsa().PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	return map[int]any{1: 2, 3: algES256, -1: 1, -2: b[1:33], -3: b[33:]}
}

// sign signs authenticator data and the hash of client data.
func (c *credential) sign(data, hash []byte) []byte {
	message := append(append([]byte(nil), data...), hash...)
	if c.Alg == algEdDSA {
		return ed25519.Sign(ed25519.NewKeyFromSeed(c.Private), message)
	}
	sum := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, c.ecdsa(), sum[:])
	if err != nil {
		panic(err)
	}
	return sig
}

// authData is what the key vouches for.
func (k *Key) authData(rp string, up, uv bool, made []byte, extensions map[string]any) []byte {
	k.s.Counter++
	hash := sha256.Sum256([]byte(rp))
	var flags byte
	for _, f := range []struct {
		on  bool
		bit byte
	}{{up, 0x01}, {uv, 0x04}, {made != nil, 0x40}, {len(extensions) > 0, 0x80}} {
		if f.on {
			flags |= f.bit
		}
	}
	b := append(hash[:], flags)
	b = binary.BigEndian.AppendUint32(b, k.s.Counter)
	b = append(b, made...)
	if len(extensions) > 0 {
		x, err := encoding.Marshal(extensions)
		if err != nil {
			panic(err)
		}
		b = append(b, x...)
	}
	return b
}

type makeRequest struct {
	Hash []byte `cbor:"1,keyasint"`
	RP   *struct {
		ID string `cbor:"id"`
	} `cbor:"2,keyasint"`
	User *struct {
		ID   []byte `cbor:"id"`
		Name string `cbor:"name"`
	} `cbor:"3,keyasint"`
	Algorithms []struct {
		Alg  int    `cbor:"alg"`
		Type string `cbor:"type"`
	} `cbor:"4,keyasint"`
	Exclude []struct {
		ID []byte `cbor:"id"`
	} `cbor:"5,keyasint"`
	Extensions struct {
		HMACSecret bool   `cbor:"hmac-secret"`
		Protect    uint64 `cbor:"credProtect"`
	} `cbor:"6,keyasint"`
	Options  map[string]bool `cbor:"7,keyasint"`
	Proof    *[]byte         `cbor:"8,keyasint"`
	Protocol uint64          `cbor:"9,keyasint"`
}

func (k *Key) makeCredential(ctx context.Context, body []byte, alive func(byte)) (any, status) {
	var r makeRequest
	if decoding.Unmarshal(body, &r) != nil {
		return nil, errCBOR
	}
	if len(r.Hash) != 32 || r.RP == nil || r.User == nil || r.Algorithms == nil {
		return nil, errMissing
	}
	uv, s := k.authorise(ctx, r.Proof, r.Protocol, r.Hash, permitMake, r.RP.ID, alive)
	if s != ok {
		return nil, s
	}
	alg := 0
	for _, a := range r.Algorithms {
		if alg == 0 && a.Type == "public-key" && (a.Alg == algES256 || a.Alg == algEdDSA) {
			alg = a.Alg
		}
	}
	if alg == 0 {
		return nil, errAlgorithm
	}
	if uv, s = k.userFor(ctx, r.Options, uv, r.Proof != nil, alive); s != ok {
		return nil, s
	}
	if s := k.touch(ctx, alive); s != ok {
		return nil, s
	}
	for _, x := range r.Exclude {
		if k.unwrap(x.ID, r.RP.ID) != nil {
			return nil, 0x19
		}
	}
	return k.made(&r, alg, uv), ok
}

// userFor checks the options of a new credential and whether its user has to be
// verified.
func (k *Key) userFor(ctx context.Context, options map[string]bool, uv, proven bool, alive func(byte)) (bool, status) {
	if up, given := options["up"]; given && !up {
		return false, errInvalidOpt
	}
	if options["rk"] {
		return false, errOption
	}
	if proven {
		return uv, ok
	}
	want := options["uv"]
	if want && k.s.UV == "" {
		return false, errInvalidOpt
	}
	protected := k.s.PIN != "" && (k.s.CTAP20 || k.s.PINForNew) || k.s.AlwaysUV
	switch {
	case want, protected && k.s.UV != "" && k.s.AlwaysUV:
		s := k.verify(ctx, alive)
		return s == ok, s
	case protected:
		return false, errPUATRequired
	}
	return false, ok
}

// made makes the answer.
func (k *Key) made(r *makeRequest, alg int, uv bool) map[int]any {
	c := newCredential(alg)
	extensions := map[string]any{}
	if r.Extensions.Protect != 0 && !k.s.CTAP20 {
		c.Protect = r.Extensions.Protect
		extensions["credProtect"] = c.Protect
	}
	if r.Extensions.HMACSecret && !k.s.NoHMACSecret {
		extensions["hmac-secret"] = true
	}
	id := k.wrap(c, r.RP.ID)
	public, err := encoding.Marshal(c.public())
	if err != nil {
		panic(err)
	}
	made := append([]byte(nil), k.aaguid()...)
	made = binary.BigEndian.AppendUint16(made, uint16(len(id)))
	made = append(append(made, id...), public...)
	data := k.authData(r.RP.ID, true, uv, made, extensions)
	return map[int]any{1: "packed", 2: data, 3: map[string]any{"alg": alg, "sig": c.sign(data, r.Hash)}}
}

type assertRequest struct {
	RP    string `cbor:"1,keyasint"`
	Hash  []byte `cbor:"2,keyasint"`
	Allow []struct {
		ID []byte `cbor:"id"`
	} `cbor:"3,keyasint"`
	Extensions map[string]cbor.RawMessage `cbor:"4,keyasint"`
	Options    map[string]bool            `cbor:"5,keyasint"`
	Proof      *[]byte                    `cbor:"6,keyasint"`
	Protocol   uint64                     `cbor:"7,keyasint"`
}

func (k *Key) getAssertion(ctx context.Context, body []byte, alive func(byte)) (any, status) {
	var r assertRequest
	if decoding.Unmarshal(body, &r) != nil {
		return nil, errCBOR
	}
	if len(r.Hash) != 32 || r.RP == "" {
		return nil, errMissing
	}
	up, given := r.Options["up"]
	up = up || !given
	if k.s.NoUP {
		if given && up {
			return nil, errInvalidOpt
		}
		up = false
	}
	uv, s := k.authorise(ctx, r.Proof, r.Protocol, r.Hash, permitAssert, r.RP, alive)
	if s == ok && r.Proof == nil {
		uv, s = k.userOf(ctx, r.Options["uv"], up, alive)
	}
	if s != ok {
		return nil, s
	}
	var id []byte
	var c *credential
	for _, a := range r.Allow {
		if x := k.unwrap(a.ID, r.RP); c == nil && x != nil && (x.Protect < 3 || uv) {
			id, c = a.ID, x
		}
	}
	if c == nil {
		return nil, errNoCred
	}
	if _, asked := r.Extensions["hmac-secret"]; asked && !up && k.s.HMACTouch {
		return nil, errOption
	}
	if up {
		if s := k.touch(ctx, alive); s != ok {
			return nil, s
		}
	}
	extensions, s := k.secret(r.Extensions["hmac-secret"], c, uv)
	if s != ok {
		return nil, s
	}
	data := k.authData(r.RP, up, uv, nil, extensions)
	return map[int]any{1: map[string]any{"id": id, "type": "public-key"}, 2: data, 3: c.sign(data, r.Hash)}, ok
}

// userOf verifies the user without a token, if that is asked for or has to be.
func (k *Key) userOf(ctx context.Context, want, up bool, alive func(byte)) (bool, status) {
	if want && k.s.UV == "" {
		return false, errInvalidOpt
	}
	always := k.s.AlwaysUV && (up || k.s.ShyUV)
	switch {
	case want, always && k.s.UV != "" && up:
		s := k.verify(ctx, alive)
		return s == ok, s
	case always:
		return false, errPUATRequired
	}
	return false, ok
}

// secret answers hmac-secret.
func (k *Key) secret(input cbor.RawMessage, c *credential, uv bool) (map[string]any, status) {
	if input == nil || k.s.NoHMACSecret {
		return nil, ok
	}
	var in struct {
		Key      coseKey `cbor:"1,keyasint"`
		Salt     []byte  `cbor:"2,keyasint"`
		Auth     []byte  `cbor:"3,keyasint"`
		Protocol uint64  `cbor:"4,keyasint"`
	}
	if decoding.Unmarshal(input, &in) != nil {
		return nil, errCBOR
	}
	if in.Protocol == 0 {
		in.Protocol = 1
	}
	ch, s := k.channel(in.Protocol, &in.Key)
	if s != ok {
		return nil, s
	}
	if !hmac.Equal(in.Auth, mac(in.Protocol, ch.macKey, in.Salt)) {
		return nil, errAuthInvalid
	}
	salts := ch.open(in.Salt)
	if len(salts) != 32 && len(salts) != 64 {
		return nil, errLength
	}
	key := c.WithoutUV
	if uv {
		key = c.WithUV
	}
	var out []byte
	for ; len(salts) > 0; salts = salts[32:] {
		out = append(out, sum(key, salts[:32])...)
	}
	return map[string]any{"hmac-secret": ch.seal(out)}, ok
}
