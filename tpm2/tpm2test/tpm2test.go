// Package tpm2test has what tests of TPM work are made with: a software TPM, a
// guard that refuses secrets in the clear, and a tap on the bus. It knows nothing
// of package tpm2 but the shape of its Device.
package tpm2test

import (
	"encoding/binary"
	"fmt"
	"sync"
)

// Device is the shape of tpm2.Device.
type Device interface {
	Send(command []byte) (response []byte, err error)
}

// Command codes of the TPM.
const (
	CreatePrimary = 0x131
	Create        = 0x153
	Load          = 0x157
	Unseal        = 0x15e
	NVRead        = 0x14e

	pcrEvent  = 0x13c
	pcrReset  = 0x13d
	pcrExtend = 0x182
)

const (
	tagSessions = 0x8002
	password    = 0x40000009
	decryptIn   = 1 << 5
	encryptOut  = 1 << 6
)

// Code returns the command code.
func Code(command []byte) uint32 {
	if len(command) < 10 {
		return 0
	}
	return binary.BigEndian.Uint32(command[6:])
}

// Guard passes commands on to a TPM, but refuses those that would carry a secret
// without parameter encryption: it answers to them with an error.
type Guard struct{ Device }

// Send refuses or passes on.
func (g Guard) Send(command []byte) ([]byte, error) {
	var need byte
	switch Code(command) {
	case Create:
		need = decryptIn
	case Unseal, NVRead:
		need = encryptOut
	}
	if need != 0 && sessionAttributes(command)&need == 0 {
		return nil, fmt.Errorf("command %#x without parameter encryption", Code(command))
	}
	return g.Device.Send(command)
}

// sessionAttributes returns the attributes of all real sessions of a command
// with one handle, or'ed.
func sessionAttributes(command []byte) byte {
	if len(command) < 18 || binary.BigEndian.Uint16(command) != tagSessions {
		return 0
	}
	area := command[14:]
	if code := Code(command); code == NVRead {
		area = command[18:]
	}
	size := int(binary.BigEndian.Uint32(area))
	if area = area[4:]; size > len(area) {
		return 0
	}
	var all byte
	for area = area[:size]; len(area) >= 9; {
		handle := binary.BigEndian.Uint32(area)
		nonce := int(binary.BigEndian.Uint16(area[4:]))
		if len(area) < 9+nonce {
			return all
		}
		if handle != password {
			all |= area[6+nonce]
		}
		mac := int(binary.BigEndian.Uint16(area[7+nonce:]))
		if len(area) < 9+nonce+mac {
			return all
		}
		area = area[9+nonce+mac:]
	}
	return all
}

// Tap passes everything on and keeps a copy. It is safe for concurrent use.
type Tap struct {
	Device
	mu    sync.Mutex
	codes []uint32
	bytes []byte
}

// Send records both directions.
func (t *Tap) Send(command []byte) ([]byte, error) {
	t.keep(command)
	t.mu.Lock()
	t.codes = append(t.codes, Code(command))
	t.mu.Unlock()
	response, err := t.Device.Send(command)
	t.keep(response)
	return response, err
}

func (t *Tap) keep(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes = append(t.bytes, b...)
}

// Bytes returns all that crossed the bus.
func (t *Tap) Bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.bytes...)
}

// Codes returns the commands in their order.
func (t *Tap) Codes() []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]uint32(nil), t.codes...)
}

// Func is a device made of a function.
type Func func(command []byte) ([]byte, error)

// Send calls the function.
func (f Func) Send(command []byte) ([]byte, error) { return f(command) }

// Refusal is a response that refuses the command with a response code.
func Refusal(rc uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, rc)
}
