package pkcs11

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/lockport/lockport/secret"
)

// A function is one of PKCS#11 as the protocol numbers it, with the signatures
// of request and answer that go along as a check.
// Source: p11-kit, p11-kit/rpc-message.h.
type function struct {
	name              string
	number            uint32
	request, response string
}

var (
	fInitialize        = function{"Initialize", 1, "ayyay", ""}
	fFinalize          = function{"Finalize", 2, "", ""}
	fGetInfo           = function{"GetInfo", 3, "", "vsusv"}
	fGetSlotList       = function{"GetSlotList", 4, "yfu", "au"}
	fGetSlotInfo       = function{"GetSlotInfo", 5, "u", "ssuvv"}
	fGetTokenInfo      = function{"GetTokenInfo", 6, "u", "ssssuuuuuuuuuuuvvs"}
	fGetMechanismInfo  = function{"GetMechanismInfo", 8, "uu", "uuu"}
	fOpenSession       = function{"OpenSession", 10, "uu", "u"}
	fCloseSession      = function{"CloseSession", 11, "u", ""}
	fLogin             = function{"Login", 18, "uuay", ""}
	fDestroyObject     = function{"DestroyObject", 22, "uu", ""}
	fGetAttributeValue = function{"GetAttributeValue", 24, "uufA", "aAu"}
	fFindObjectsInit   = function{"FindObjectsInit", 26, "uaA", ""}
	fFindObjects       = function{"FindObjects", 27, "ufu", "au"}
	fFindObjectsFinal  = function{"FindObjectsFinal", 28, "u", ""}
	fDecryptInit       = function{"DecryptInit", 33, "uMu", ""}
	fDecrypt           = function{"Decrypt", 34, "uayfy", "ay"}
	fDeriveKey         = function{"DeriveKey", 62, "uMuaA", "u"}
)

// callError is the number of an answer that is an error and nothing else.
const callError = 0

// Versions of the protocol, which the two sides agree on with their first byte.
const (
	versionOld    = 0 // p11-kit up to 0.24: knows no parameters of elliptic curves
	versionCurves = 1 // 0.25
	versionMarked = 2 // 0.25.6: parameters of mechanisms have a mark
)

// handshake is what Initialize has to bring.
const handshake = "PRIVATE-GNOME-KEYRING-PKCS11-PROTOCOL-V-1"

// How long a module may take: for what it does by itself, and for what a person
// may have to do at the token, touch it or type at its reader.
const (
	machineTime = 30 * time.Second
	personTime  = 2 * time.Minute
)

// A conn talks to one child. It is used by one goroutine at a time, but may be
// closed by another. After an error that is no [Code] nothing more is said on it:
// it is not known what the other side would answer to.
type conn struct {
	rw      io.ReadWriteCloser
	version byte
	serial  uint32
	broken  error
	closing sync.Once
	closed  error

	machine, person time.Duration
}

// newConn agrees on a version. The conn takes over rw.
func newConn(ctx context.Context, rw io.ReadWriteCloser) (*conn, error) {
	c := &conn{rw: rw, machine: machineTime, person: personTime}
	err := c.within(ctx, c.machine, func() error {
		if _, err := rw.Write([]byte{versionMarked}); err != nil {
			return err
		}
		var answer [1]byte
		_, err := io.ReadFull(rw, answer[:])
		c.version = answer[0]
		return err
	})
	if err == nil && c.version > versionMarked {
		err = fmt.Errorf("%w: protocol version %d", ErrResponse, c.version)
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// close ends the child. It may be called more than once.
func (c *conn) close() error {
	c.closing.Do(func() { c.closed = c.rw.Close() })
	return c.closed
}

// within does what may hang: when the time is up or the context ends, the
// connection is closed, which ends f.
func (c *conn) within(ctx context.Context, limit time.Duration, f func() error) error {
	if c.broken != nil {
		return c.broken
	}
	limited, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	stop := context.AfterFunc(limited, func() { _ = c.close() })
	err := f()
	if !stop() || limited.Err() != nil {
		err = context.Cause(limited)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = ErrGone
	}
	c.broken = err
	return err
}

var errSlow = errors.New("the PKCS#11 module does not answer")

// call sends a request, which it wipes, and returns the answer behind number and
// signature. The caller wipes it, and is to read all of it.
func (c *conn) call(ctx context.Context, f function, limit time.Duration, r *request) (*response, error) {
	defer r.wipe()
	if r.err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, r.err)
	}
	var answer *response
	err := c.within(ctx, limit, func() error {
		c.serial++
		if err := c.send(r.sent()); err != nil {
			return err
		}
		var err error
		answer, err = c.receive()
		return err
	})
	if err == nil {
		err = c.check(f, answer)
	}
	if err != nil {
		answer.wipe()
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return answer, nil
}

// headerSize is that of what goes before each message: serial number, length of
// options, which nobody uses, and length of the message.
const headerSize = 12

func (c *conn) send(message []byte) error {
	header := make([]byte, 0, headerSize)
	header = binary.BigEndian.AppendUint32(header, c.serial)
	header = binary.BigEndian.AppendUint32(header, 0)
	header = binary.BigEndian.AppendUint32(header, uint32(len(message)))
	if _, err := c.rw.Write(header); err != nil {
		return err
	}
	_, err := c.rw.Write(message)
	return err
}

func (c *conn) receive() (*response, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(c.rw, header[:]); err != nil {
		return nil, err
	}
	serial, options, size := binary.BigEndian.Uint32(header[:]), binary.BigEndian.Uint32(header[4:]), binary.BigEndian.Uint32(header[8:])
	switch {
	case serial != c.serial:
		return nil, fmt.Errorf("%w: answer %d to request %d", ErrResponse, serial, c.serial)
	case options > maxResponse || size > maxResponse:
		return nil, fmt.Errorf("%w: a message of %d bytes with %d bytes of options", ErrResponse, size, options)
	}
	if _, err := io.CopyN(io.Discard, c.rw, int64(options)); err != nil {
		return nil, err
	}
	buf := secret.New(int(size))
	if _, err := io.ReadFull(c.rw, buf.Reveal()); err != nil {
		buf.Wipe()
		return nil, err
	}
	return &response{buf: buf, b: buf.Reveal()}, nil
}

// check takes number and signature off an answer.
func (c *conn) check(f function, r *response) error {
	number, signature := r.u32(), string(r.bytes())
	switch {
	case r.err != nil:
	case number == callError && signature == "u":
		code := Code(r.u64())
		if err := r.end(); err != nil {
			break
		}
		if code != 0 {
			return code
		}
		r.fail("an error that is none")
	case number != f.number || signature != f.response:
		r.fail("answer %d %.32q to call %d", number, signature, f.number)
	}
	c.broken = r.err
	return r.err
}

// done checks that an answer was read to its end. Of what makes no sense once,
// nothing more is believed.
func (c *conn) done(f function, r *response) error {
	err := r.end()
	if err != nil {
		c.broken = err
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}
