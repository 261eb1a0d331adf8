package fido2

import (
	"context"
	"fmt"
	"io"
)

// Conn carries CTAP2 messages to one security key and back, one at a time. A
// request is a command byte and its parameters in CBOR; a response is a status
// byte and its members in CBOR, and belongs to the caller. Call calls touch, if it
// is not nil, each time the device says that it waits for a person. When ctx ends
// it cancels what is under way and returns the context's error. If a Conn is an
// io.Closer, whoever opened it closes it.
type Conn interface {
	Call(ctx context.Context, request []byte, touch func()) (response []byte, err error)
}

// The commands that we send; CTAP 2.1, section 6.
const (
	cmdMakeCredential = 0x01
	cmdGetAssertion   = 0x02
	cmdGetInfo        = 0x04
	cmdClientPIN      = 0x06
)

// defaultMessageSize is what every device takes, in bytes.
const defaultMessageSize = 1024

// Device is a connected security key. It is not safe for concurrent use.
type Device struct {
	Info Info
	// Touch is called when the device waits for a person, once for each
	// operation. May be nil.
	Touch func()

	conn Conn
}

// Connect asks the device at the other end who it is. The error wraps
// [ErrNotFIDO2] for one that only speaks U2F. The connection stays the caller's.
func Connect(ctx context.Context, conn Conn) (*Device, error) {
	d := &Device{conn: conn, Info: Info{MaxMessageSize: defaultMessageSize}}
	if err := d.call(ctx, cmdGetInfo, nil, &d.Info); err != nil {
		return nil, fmt.Errorf("asking the security key for its features: %w", err)
	}
	return d, d.Info.check()
}

// call sends a command with its parameters, nil for none, and reads the response
// into what is not nil.
func (d *Device) call(ctx context.Context, command byte, request, response any) error {
	message := []byte{command}
	if request != nil {
		b, err := encoding.Marshal(request)
		if err != nil {
			return err
		}
		message = append(message, b...)
	}
	if uint64(len(message)) > d.Info.MaxMessageSize {
		return fmt.Errorf("message of %d bytes, the security key takes at most %d", len(message), d.Info.MaxMessageSize)
	}
	answer, err := d.conn.Call(ctx, message, d.once())
	switch {
	case err != nil:
		return err
	case len(answer) == 0:
		return fmt.Errorf("%w: it is empty", ErrResponse)
	case answer[0] != 0:
		return Status(answer[0])
	case response == nil:
		return nil
	}
	return decode(answer[1:], response)
}

// once is Touch for one operation, in which the device repeats itself.
func (d *Device) once() func() {
	told := false
	return func() {
		if !told && d.Touch != nil {
			d.Touch()
		}
		told = true
	}
}

// closeConn closes a connection that can be closed.
func closeConn(c Conn) error {
	if closer, ok := c.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}
