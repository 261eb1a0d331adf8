package fido2

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Reports carries HID reports to a security key and back, without the number that
// comes in front of them. Receive waits for the next one until ctx ends.
type Reports interface {
	Send(report []byte) error
	Receive(ctx context.Context) ([]byte, error)
}

// The commands of CTAPHID; CTAP 2.1, section 11.2.9.
const (
	hidInit      = 0x80 | 0x06
	hidCBOR      = 0x80 | 0x10
	hidCancel    = 0x80 | 0x11
	hidKeepalive = 0x80 | 0x3b
	hidError     = 0x80 | 0x3f
)

const (
	broadcast   = 0xffffffff // the channel of those that have none
	nonceSize   = 8
	initSize    = nonceSize + 4 + 1 + 3 + 1
	capableCBOR = 0x04
	upNeeded    = 2 // as the status of a keepalive

	firstHead = 7 // channel, command, length
	nextHead  = 5 // channel, number
	maxNext   = 128
)

// How long is waited.
const (
	initTime   = 3 * time.Second
	silentTime = 10 * time.Second       // without a word; a key at work says so ten times a second
	callTime   = 3 * time.Minute        // for a whole operation; keys give a person half a minute
	cancelTime = time.Second            // for the end of what was cancelled
	busyTime   = 100 * time.Millisecond // until the next attempt
	maxBusy    = 100
)

// HIDError is what a device says of a message that it could not take; CTAP 2.1,
// section 11.2.9.1.6.
type HIDError byte

const hidBusy HIDError = 0x06

// Error gives the number: nothing of it is the person's doing.
func (e HIDError) Error() string {
	return fmt.Sprintf("the security key could not take the message: error 0x%02x", byte(e))
}

// Is makes a busy device [ErrBusy].
func (e HIDError) Is(target error) bool { return target == ErrBusy && e == hidBusy }

// HID is a [Conn] over HID reports. It is not safe for concurrent use; other
// programs may use the device at the same time.
type HID struct {
	r       Reports
	sizes   Sizes
	channel uint32
}

var _ Conn = (*HID)(nil)

// OpenHID gets a channel of its own. The reports stay the caller's.
func OpenHID(ctx context.Context, r Reports, sizes Sizes) (*HID, error) {
	if sizes.In < minReport || sizes.Out < minReport || sizes.In > maxReport || sizes.Out > maxReport {
		return nil, fmt.Errorf("%w: reports of %d and %d bytes", ErrNotFIDO2, sizes.In, sizes.Out)
	}
	h := &HID{r: r, sizes: sizes, channel: broadcast}
	if err := again(ctx, func() error { return h.init(ctx) }); err != nil {
		return nil, fmt.Errorf("getting a channel: %w", err)
	}
	return h, nil
}

// again repeats what a busy device refused.
func again(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if !errors.Is(err, hidBusy) || n == maxBusy {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(busyTime):
		}
	}
}

func (h *HID) init(ctx context.Context) error {
	nonce := make([]byte, nonceSize)
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(nonce)
	if err := h.send(hidInit, nonce); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, initTime, ErrSilent)
	defer cancel()
	for {
		// Answers to other programs come on this channel too.
		_, b, err := h.receive(ctx, hidInit, nil)
		if err != nil {
			return cause(ctx, err)
		}
		if len(b) < initSize || !bytes.HasPrefix(b, nonce) {
			continue
		}
		channel := binary.BigEndian.Uint32(b[nonceSize:])
		switch {
		case channel == 0 || channel == broadcast:
			return fmt.Errorf("%w: channel %#x", ErrResponse, channel)
		case b[initSize-1]&capableCBOR == 0:
			return fmt.Errorf("%w: it only speaks U2F", ErrNotFIDO2)
		}
		h.channel = channel
		return nil
	}
}

// cause is why the wait ended, if it was the context that ended it.
func cause(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Call sends one message and waits for the answer; see [Conn].
func (h *HID) Call(ctx context.Context, request []byte, touch func()) (response []byte, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, callTime, ErrSilent)
	defer cancel()
	err = again(limited, func() error {
		if err := h.send(hidCBOR, request); err != nil {
			return err
		}
		_, response, err = h.receive(limited, hidCBOR, touch)
		return err
	})
	if limited.Err() != nil {
		h.cancel()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return response, cause(limited, err)
}

// cancel ends what the device is doing and takes its answer, so that it is ready for
// whoever comes next.
func (h *HID) cancel() {
	if h.send(hidCancel, nil) != nil {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), cancelTime)
	defer stop()
	_, _, _ = h.receive(ctx, hidCBOR, nil)
}

// send cuts a message into reports.
func (h *HID) send(command byte, message []byte) error {
	first, next := h.sizes.Out-firstHead, h.sizes.Out-nextHead
	if len(message) > min(first+maxNext*next, 1<<16-1) {
		return fmt.Errorf("message of %d bytes is more than a security key can take", len(message))
	}
	report := make([]byte, h.sizes.Out)
	binary.BigEndian.PutUint32(report, h.channel)
	report[4] = command
	binary.BigEndian.PutUint16(report[5:], uint16(len(message)))
	n := copy(report[firstHead:], message)
	for number := byte(0); ; number++ {
		if err := h.r.Send(report); err != nil {
			return err
		}
		message = message[n:]
		if len(message) == 0 {
			return nil
		}
		clear(report[4:])
		report[4] = number
		n = copy(report[nextHead:], message)
	}
}

// receive waits for the answer to a command. What goes to other channels is passed
// over, and what a device says of its own progress goes to touch.
func (h *HID) receive(ctx context.Context, want byte, touch func()) (command byte, message []byte, err error) {
	for {
		b, err := h.packet(ctx)
		if err != nil {
			return 0, nil, err
		}
		command, rest := b[4], b[firstHead:]
		length := int(binary.BigEndian.Uint16(b[5:]))
		switch {
		case command == hidKeepalive:
			if length > 0 && rest[0] == upNeeded && touch != nil {
				touch()
			}
		case command == hidError && length > 0:
			return command, nil, HIDError(rest[0])
		case command == want:
			message, err := h.rest(ctx, rest, length)
			return command, message, err
		}
		// Everything else is what is left of an earlier exchange.
	}
}

// rest collects the packets that belong to a message of so many bytes.
func (h *HID) rest(ctx context.Context, first []byte, length int) ([]byte, error) {
	if length > h.sizes.In-firstHead+maxNext*(h.sizes.In-nextHead) {
		return nil, fmt.Errorf("%w: message of %d bytes", ErrResponse, length)
	}
	message := append([]byte(nil), first[:min(length, len(first))]...)
	for number := byte(0); len(message) < length; {
		b, err := h.packet(ctx)
		if err != nil {
			return nil, err
		}
		if b[4] == hidKeepalive {
			continue
		}
		if b[4] != number {
			return nil, fmt.Errorf("%w: packet %d where %d was due", ErrResponse, b[4], number)
		}
		message = append(message, b[nextHead:min(len(b), nextHead+length-len(message))]...)
		number++
	}
	return message, nil
}

// packet waits for the next report on our channel, at least as long as a head.
func (h *HID) packet(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, silentTime, ErrSilent)
	defer cancel()
	for ctx.Err() == nil { // a source that never ends must not keep us
		b, err := h.r.Receive(ctx)
		if err != nil {
			return nil, cause(ctx, err)
		}
		if len(b) >= firstHead+1 && binary.BigEndian.Uint32(b) == h.channel {
			return b, nil
		}
	}
	return nil, cause(ctx, ctx.Err())
}
