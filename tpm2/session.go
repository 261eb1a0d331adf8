package tpm2

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/lockport/lockport/secret"
)

// session is an authorisation session that is salted to a parent key: nobody
// without its private part knows the session's key.
type session struct {
	handle      uint32
	key         *secret.Bytes // nil once the session has ended
	nonceCaller []byte
	nonceTPM    []byte
}

// start opens a session. What the salt is encrypted to is the public part that
// was recorded, never what the TPM says: a TPM, or whoever poses as one, that
// does not hold that very key cannot go on from here. The caller closes it.
func (c *conn) start(ctx context.Context, kind byte, handle uint32, p *parent) (*session, error) {
	salt, share, err := p.share(labelSession)
	if err != nil {
		return nil, err
	}
	defer salt.Wipe()
	s := &session{}
	s.renew()
	params := append(putSized(putSized(nil, s.nonceCaller), share), kind)
	params = put16(params, algAES, 128, algCFB, algSHA256)
	h, out, err := c.run(ctx, call{code: ccStartAuthSession, handles: []object{fixed(handle), fixed(handleNull)},
		params: params, returns: true})
	if err != nil {
		return nil, err
	}
	s.handle, s.nonceTPM = h, out.sized()
	if err := out.end(); err != nil || len(s.nonceTPM) != digestSize {
		return nil, errors.Join(fmt.Errorf("%w: a session without its nonce", ErrResponse), c.flush(ctx, h))
	}
	s.key = kdfa(salt.Reveal(), "ATH", s.nonceTPM, s.nonceCaller, digestSize)
	return s, nil
}

// close ends the session on both sides unless the TPM did already.
func (c *conn) close(ctx context.Context, s *session) error {
	if s == nil || s.key == nil {
		return nil
	}
	s.end()
	return c.flush(ctx, s.handle)
}

func (s *session) end() {
	s.key.Wipe()
	s.key = nil
}

// renew makes the nonce for the next command.
func (s *session) renew() {
	s.nonceCaller = make([]byte, digestSize)
	_, _ = rand.Read(s.nonceCaller)
}

// sessionValue is the session's key and the object's value: the key of all
// proofs and ciphers. The caller wipes it.
func (a auth) sessionValue() *secret.Bytes {
	v := secret.New(a.s.key.Len() + a.key.Len())
	copy(v.Reveal()[copy(v.Reveal(), a.s.key.Reveal()):], a.key.Reveal())
	return v
}

// encrypt encrypts the first parameter of a command in place.
func (a auth) encrypt(params []byte) error {
	if a.attrs&attrDecryptIn == 0 {
		return nil
	}
	return a.cfb(params, a.s.nonceCaller, a.s.nonceTPM, false)
}

// decrypt decrypts the first parameter of a response in place.
func (a auth) decrypt(params []byte) error {
	if a.attrs&attrEncryptOut == 0 {
		return nil
	}
	return a.cfb(params, a.s.nonceTPM, a.s.nonceCaller, true)
}

// cfb works on the first parameter, which begins with its length (part 1 §21.3).
func (a auth) cfb(params, newer, older []byte, decrypt bool) error {
	first := (&cursor{b: params}).sized()
	if first == nil {
		return errors.New("no parameter that could be encrypted")
	}
	value := a.sessionValue()
	defer value.Wipe()
	k := kdfa(value.Reveal(), "CFB", newer, older, 2*aes.BlockSize)
	defer k.Wipe()
	return cfb128(k.Reveal()[:16], k.Reveal()[16:], first, decrypt)
}

// cfb128 is AES in CFB mode over whole blocks, in place. iv is used up.
func cfb128(key, iv, data []byte, decrypt bool) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	var in [aes.BlockSize]byte
	for len(data) > 0 {
		block.Encrypt(iv, iv)
		n := copy(in[:], data)
		subtle.XORBytes(data, data[:n], iv)
		if decrypt {
			copy(iv, in[:n])
		} else {
			copy(iv, data[:n])
		}
		data = data[n:]
	}
	clear(in[:])
	return nil
}
