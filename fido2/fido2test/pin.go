package fido2test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"unicode/utf8"
)

type coseKey struct {
	Type  int    `cbor:"1,keyasint"`
	Alg   int    `cbor:"3,keyasint"`
	Curve int    `cbor:"-1,keyasint"`
	X     []byte `cbor:"-2,keyasint"`
	Y     []byte `cbor:"-3,keyasint"`
}

// channel is what both sides of the wire agreed on.
type channel struct {
	protocol       uint64
	macKey, aesKey []byte
}

func (k *Key) channel(protocol uint64, theirs *coseKey) (*channel, status) {
	if !slices.Contains(k.protocols(), protocol) {
		return nil, errParameter
	}
	if theirs == nil || theirs.Type != 2 || theirs.Alg != -25 || theirs.Curve != 1 {
		return nil, errParameter
	}
	public, err := ecdh.P256().NewPublicKey(slices.Concat([]byte{4}, theirs.X, theirs.Y))
	if err != nil {
		return nil, errParameter
	}
	z, err := k.agree.ECDH(public)
	if err != nil {
		return nil, errParameter
	}
	if protocol == 1 {
		h := sha256.Sum256(z)
		return &channel{1, h[:], h[:]}, ok
	}
	derive := func(what string) []byte {
		b, err := hkdf.Key(sha256.New, z, make([]byte, 32), what, 32)
		if err != nil {
			panic(err)
		}
		return b
	}
	return &channel{2, derive("CTAP2 HMAC key"), derive("CTAP2 AES key")}, ok
}

func (c *channel) block() cipher.Block {
	b, err := aes.NewCipher(c.aesKey)
	if err != nil {
		panic(err)
	}
	return b
}

// open returns nil for what is no ciphertext.
func (c *channel) open(b []byte) []byte {
	iv := make([]byte, 16)
	if c.protocol == 2 {
		if len(b) < 16 {
			return nil
		}
		iv, b = b[:16], b[16:]
	}
	if len(b) == 0 || len(b)%16 != 0 {
		return nil
	}
	out := make([]byte, len(b))
	cipher.NewCBCDecrypter(c.block(), iv).CryptBlocks(out, b)
	return out
}

func (c *channel) seal(b []byte) []byte {
	iv := make([]byte, 16)
	if c.protocol == 2 {
		iv = random(16)
	}
	out := make([]byte, len(b))
	cipher.NewCBCEncrypter(c.block(), iv).CryptBlocks(out, b)
	if c.protocol == 2 {
		return append(iv, out...)
	}
	return out
}

func sum(key, message []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(message)
	return m.Sum(nil)
}

// mac proves with a key, or with the token.
func mac(protocol uint64, key, message []byte) []byte {
	if protocol == 1 {
		return sum(key, message)[:16]
	}
	return sum(key[:32], message)
}

type pinRequest struct {
	Protocol uint64   `cbor:"1,keyasint"`
	Sub      int      `cbor:"2,keyasint"`
	Key      *coseKey `cbor:"3,keyasint"`
	Proof    []byte   `cbor:"4,keyasint"`
	NewPIN   []byte   `cbor:"5,keyasint"`
	PINHash  []byte   `cbor:"6,keyasint"`
	Permits  uint64   `cbor:"9,keyasint"`
	RP       string   `cbor:"10,keyasint"`
}

func (k *Key) clientPIN(ctx context.Context, body []byte, alive func(byte)) (any, status) {
	var r pinRequest
	if decoding.Unmarshal(body, &r) != nil {
		return nil, errCBOR
	}
	if k.s.CTAP20 && (r.Protocol == 0 || r.Sub > 5) {
		return nil, errParameter
	}
	switch r.Sub {
	case 1:
		answer := map[int]any{3: k.s.PINRetries}
		if !k.s.CTAP20 {
			answer[4] = k.misses >= maxMisses
		}
		return answer, ok
	case 2:
		b := k.agree.PublicKey().Bytes()
		return map[int]any{1: map[int]any{1: 2, 3: -25, -1: 1, -2: b[1:33], -3: b[33:]}}, ok
	case 7:
		return map[int]any{5: k.s.UVRetries}, ok
	}
	c, s := k.channel(r.Protocol, r.Key)
	if s != ok {
		return nil, s
	}
	switch r.Sub {
	case 3, 4:
		return nil, k.setPIN(c, &r)
	case 5:
		return k.pinToken(c, &r, permitMake|permitAssert)
	case 6:
		return k.uvToken(ctx, c, &r, alive)
	case 9:
		if r.Permits == 0 || r.RP == "" && r.Permits&(permitMake|permitAssert) != 0 {
			return nil, errParameter
		}
		return k.pinToken(c, &r, r.Permits)
	}
	return nil, errSubcommand
}

// setPIN sets or changes the PIN.
func (k *Key) setPIN(c *channel, r *pinRequest) status {
	message := r.NewPIN
	if r.Sub == 4 {
		message = slices.Concat(r.NewPIN, r.PINHash)
	}
	switch {
	case !hmac.Equal(r.Proof, mac(c.protocol, c.macKey, message)):
		return errAuthInvalid
	case r.Sub == 3 && k.s.PIN != "":
		return errAuthInvalid
	}
	if r.Sub == 4 {
		if s := k.checkPIN(c.open(r.PINHash)); s != ok {
			return s
		}
	}
	padded := c.open(r.NewPIN)
	if len(padded) != 64 {
		return errParameter
	}
	pin := bytes.TrimRight(padded, "\x00")
	if utf8.RuneCount(pin) < 4 || len(pin) > 63 {
		return errPolicy
	}
	k.s.PIN, k.s.PINRetries = string(pin), maxPINRetries
	return ok
}

// checkPIN counts before it compares.
func (k *Key) checkPIN(hash []byte) status {
	switch {
	case k.s.PIN == "":
		return errPINNotSet
	case k.s.PINRetries == 0:
		return errPINBlocked
	case k.misses >= maxMisses:
		return errAuthBlocked
	}
	k.s.PINRetries--
	want := sha256.Sum256([]byte(k.s.PIN))
	if hmac.Equal(hash, want[:16]) {
		k.s.PINRetries, k.s.UVRetries, k.misses = maxPINRetries, maxUVRetries, 0
		return ok
	}
	k.misses++
	k.forget()
	switch {
	case k.s.PINRetries == 0:
		return errPINBlocked
	case k.misses >= maxMisses:
		return errAuthBlocked
	}
	return errPINInvalid
}

func (k *Key) pinToken(c *channel, r *pinRequest, permits uint64) (any, status) {
	if s := k.checkPIN(c.open(r.PINHash)); s != ok {
		return nil, s
	}
	return k.grant(c, permits, r.RP)
}

func (k *Key) uvToken(ctx context.Context, c *channel, r *pinRequest, alive func(byte)) (any, status) {
	if k.s.UV == "" {
		return nil, errPermission
	}
	if s := k.verify(ctx, alive); s != ok {
		return nil, s
	}
	return k.grant(c, r.Permits, r.RP)
}

func (k *Key) grant(c *channel, permits uint64, rp string) (any, status) {
	k.token = token{random(32), c.protocol, permits, rp, true}
	return map[int]any{2: c.seal(k.token.value)}, ok
}
