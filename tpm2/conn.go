package tpm2

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/lockport/lockport/secret"
)

// conn is a conversation with a TPM. It is not safe for concurrent use.
type conn struct{ dev Device }

// object is something the TPM knows by a handle, and its name, which commands
// are authorised for.
type object struct {
	handle uint32
	name   []byte
}

// fixed is an object whose name is its handle: a hierarchy, a PCR, a session.
func fixed(handle uint32) object { return object{handle, put32(nil, handle)} }

// call is one command.
type call struct {
	code    uint32
	handles []object
	auths   []auth // for the first handles; none for commands without
	params  []byte
	returns bool // a handle comes back
}

// auth authorises the use of one handle: by a session, or by the empty password.
type auth struct {
	s     *session
	key   *secret.Bytes // the handle's authorisation value, nil for the empty one
	attrs byte
}

// Attributes of the use of a session.
const (
	attrContinue   = 1 << 0
	attrDecryptIn  = 1 << 5 // the first parameter of the command is encrypted
	attrEncryptOut = 1 << 6 // that of the response is
)

// run sends a command and returns the handle and the parameters that come back.
// Encrypted parameters come back decrypted; the caller wipes what is secret.
func (c *conn) run(ctx context.Context, k call) (uint32, *cursor, error) {
	for _, a := range k.auths {
		if a.s != nil {
			a.s.renew()
			if err := a.encrypt(k.params); err != nil {
				return 0, nil, err
			}
		}
	}
	response, err := c.send(ctx, k.code, k.marshal())
	if err != nil {
		return 0, nil, err
	}
	handle, params, err := k.read(response)
	if err != nil {
		if params != nil {
			clear(params.b)
		}
		return handle, nil, fmt.Errorf("%w: TPM2_%s: %w", ErrResponse, commandName(k.code), err)
	}
	return handle, params, nil
}

// marshal builds the command. The parameters are encrypted by now.
func (k call) marshal() []byte {
	tag := uint16(tagNoSessions)
	var area []byte
	if len(k.auths) > 0 {
		tag = tagSessions
		for _, a := range k.auths {
			area = a.append(area, k)
		}
		area = append(put32(nil, uint32(len(area))), area...)
	}
	size := headerSize + 4*len(k.handles) + len(area) + len(k.params)
	b := put32(put16(make([]byte, 0, size), tag), uint32(size), k.code)
	for _, h := range k.handles {
		b = put32(b, h.handle)
	}
	return append(append(b, area...), k.params...)
}

// append adds the command's side of the authorisation.
func (a auth) append(b []byte, k call) []byte {
	if a.s == nil {
		return putSized(append(putSized(put32(b, handlePassword)), attrContinue))
	}
	h := sha256.New()
	h.Write(put32(nil, k.code))
	for _, o := range k.handles {
		h.Write(o.name)
	}
	h.Write(k.params)
	mac := a.mac(h.Sum(nil), a.s.nonceCaller, a.s.nonceTPM, a.attrs)
	b = append(putSized(put32(b, a.s.handle), a.s.nonceCaller), a.attrs)
	return putSized(b, mac)
}

// mac is the proof that both sides know the session's key and the object's value.
func (a auth) mac(hash, newer, older []byte, attrs byte) []byte {
	key := a.sessionValue()
	defer key.Wipe()
	m := hmac.New(sha256.New, key.Reveal())
	m.Write(hash)
	m.Write(newer)
	m.Write(older)
	m.Write([]byte{attrs})
	return m.Sum(nil)
}

// read takes a successful response apart and checks it.
func (k call) read(response []byte) (uint32, *cursor, error) {
	c := &cursor{b: response[headerSize:]}
	var handle uint32
	if k.returns {
		handle = c.u32()
	}
	if len(k.auths) == 0 {
		return handle, c, c.err
	}
	params := c.bytes(int(min(c.u32(), maxResponse)))
	h := sha256.New()
	h.Write(put32(nil, 0, k.code))
	h.Write(params)
	for _, a := range k.auths {
		nonce, attrs, mac := c.sized(), c.u8(), c.sized()
		if c.err == nil && a.s != nil {
			if err := a.accept(h.Sum(nil), nonce, attrs, mac); err != nil {
				return handle, nil, err
			}
		}
	}
	if err := c.end(); err != nil {
		return handle, nil, err
	}
	for _, a := range k.auths {
		if a.s != nil {
			if err := a.decrypt(params); err != nil {
				return handle, &cursor{b: params}, err
			}
			if a.attrs&attrContinue == 0 {
				a.s.end()
			}
		}
	}
	return handle, &cursor{b: params}, nil
}

// accept checks the response's side of the authorisation.
func (a auth) accept(hash, nonce []byte, attrs byte, mac []byte) error {
	if attrs != a.attrs || len(nonce) != digestSize {
		return errors.New("it answers for another session")
	}
	a.s.nonceTPM = append([]byte(nil), nonce...)
	if !hmac.Equal(mac, a.mac(hash, nonce, a.s.nonceCaller, attrs)) {
		return errors.New("it does not come from the TPM that holds the parent key")
	}
	return nil
}

// A TPM that is not ready is asked again, at first soon and then less often.
const (
	firstPause = 5 * time.Millisecond
	maxPause   = 500 * time.Millisecond
	maxRepeats = 24 // ten seconds in all; a self-test takes as long on some
)

// send passes a command on, again and again while the TPM asks for that, and
// returns the response if it is a success.
func (c *conn) send(ctx context.Context, code uint32, command []byte) ([]byte, error) {
	pause := firstPause
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		response, err := c.dev.Send(command)
		if err != nil {
			return nil, fmt.Errorf("TPM2_%s: %w", commandName(code), err)
		}
		head := &cursor{b: response}
		head.u16()
		size, rc := head.u32(), head.u32()
		if head.err != nil || int64(size) != int64(len(response)) || size > maxResponse {
			return nil, fmt.Errorf("%w: TPM2_%s: %d bytes that claim to be %d", ErrResponse, commandName(code), len(response), size)
		}
		if rc == 0 {
			return response, nil
		}
		refused := rcError{code, rc}
		if !errors.Is(refused, ErrBusy) || n == maxRepeats {
			return nil, refused
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		pause = min(2*pause, maxPause)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// flush removes an object or session from the TPM, even when time is up.
func (c *conn) flush(ctx context.Context, handle uint32) error {
	_, _, err := c.run(context.WithoutCancel(ctx), call{code: ccFlushContext, params: put32(nil, handle)})
	return err
}

// codeOf returns the TPM's response code in an error, 0 for none.
func codeOf(err error) uint32 {
	var e rcError
	if errors.As(err, &e) {
		return e.code()
	}
	return 0
}
