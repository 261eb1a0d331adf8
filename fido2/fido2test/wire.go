package fido2test

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
)

// ReportSize is the length of the reports, in bytes.
const ReportSize = 64

// Descriptor is the report descriptor of a security key; CTAP 2.1, section 11.2.8.2.
var Descriptor = []byte{
	0x06, 0xd0, 0xf1, // usage page: FIDO alliance
	0x09, 0x01, // usage: authenticator
	0xa1, 0x01, // collection: application
	0x09, 0x20, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, ReportSize, 0x81, 0x02, // input
	0x09, 0x21, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, ReportSize, 0x91, 0x02, // output
	0xc0,
}

const (
	broadcast = 0xffffffff
	firstHead = 7
	nextHead  = 5

	cmdPing      = 0x81
	cmdInit      = 0x86
	cmdCBOR      = 0x90
	cmdCancel    = 0x91
	cmdKeepalive = 0xbb
	cmdError     = 0xbf

	hidInvalidCommand = 0x01
	hidInvalidLength  = 0x03
	hidInvalidSeq     = 0x04
	hidBusy           = 0x06
	hidChannel        = 0x0b
)

// Wire makes HID reports of a key's messages. Receive takes what the host sends;
// what the key sends goes to Send, which is not called by two at once.
type Wire struct {
	Key  *Key
	Send func(report []byte)

	mu      sync.Mutex
	channel uint32 // the last that was given out
	message message
	work    uint32 // the channel that the key works for, 0 for none
	cancel  context.CancelFunc
	done    chan struct{}

	sending sync.Mutex
}

// message is one that is not complete yet.
type message struct {
	channel uint32
	command byte
	length  int
	body    []byte
	next    byte
}

// Receive takes one report without its number.
func (w *Wire) Receive(report []byte) {
	report = append(slices.Clone(report), make([]byte, ReportSize)...)[:ReportSize]
	channel := binary.BigEndian.Uint32(report)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch first := report[4]&0x80 != 0; {
	case channel == 0, channel == broadcast && report[4] != cmdInit, channel != broadcast && channel > w.channel:
		w.answer(channel, cmdError, []byte{hidChannel})
	case first && report[4] == cmdCancel:
		if w.work == channel {
			w.cancel()
		}
	case first:
		w.first(channel, report)
	default:
		w.more(channel, report)
	}
}

func (w *Wire) first(channel uint32, report []byte) {
	m := message{channel: channel, command: report[4], length: int(binary.BigEndian.Uint16(report[5:]))}
	if busy := w.message.body != nil && w.message.channel != channel; w.work != 0 && m.command != cmdInit || busy {
		w.answer(channel, cmdError, []byte{hidBusy})
		return
	}
	if m.length > ReportSize-firstHead+128*(ReportSize-nextHead) {
		w.answer(channel, cmdError, []byte{hidInvalidLength})
		return
	}
	m.body = append(make([]byte, 0, m.length), report[firstHead:firstHead+min(m.length, ReportSize-firstHead)]...)
	w.message = m
	w.complete()
}

func (w *Wire) more(channel uint32, report []byte) {
	m := &w.message
	switch {
	case m.body == nil || m.channel != channel:
		return // it belongs to nothing
	case report[4] != m.next:
		w.message = message{}
		w.answer(channel, cmdError, []byte{hidInvalidSeq})
		return
	}
	m.next++
	m.body = append(m.body, report[nextHead:nextHead+min(m.length-len(m.body), ReportSize-nextHead)]...)
	w.complete()
}

// complete answers a message that has all its parts.
func (w *Wire) complete() {
	m := w.message
	if len(m.body) < m.length {
		return
	}
	w.message = message{}
	switch m.command {
	case cmdInit:
		w.init(m)
	case cmdPing:
		w.answer(m.channel, cmdPing, m.body)
	case cmdCBOR:
		w.start(m)
	default:
		w.answer(m.channel, cmdError, []byte{hidInvalidCommand})
	}
}

func (w *Wire) init(m message) {
	channel := m.channel
	if channel == broadcast {
		w.channel++
		channel = w.channel
	} else if w.work == channel {
		w.cancel()
	}
	if len(m.body) != 8 {
		w.answer(m.channel, cmdError, []byte{hidInvalidLength})
		return
	}
	b := binary.BigEndian.AppendUint32(slices.Clone(m.body), channel)
	w.answer(m.channel, cmdInit, append(b, 2, 1, 2, 3, 0x04|0x08)) // version, capabilities: CBOR and no U2F
}

// start has the key work on a message.
func (w *Wire) start(m message) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.work, w.cancel, w.done = m.channel, cancel, done
	go func() {
		defer close(done)
		defer cancel()
		answer := w.Key.Handle(ctx, m.body, func(status byte) { w.answer(m.channel, cmdKeepalive, []byte{status}) })
		w.mu.Lock()
		w.work = 0
		w.mu.Unlock()
		w.answer(m.channel, cmdCBOR, answer)
	}()
}

// answer cuts a message into reports.
func (w *Wire) answer(channel uint32, command byte, body []byte) {
	w.sending.Lock()
	defer w.sending.Unlock()
	report := make([]byte, ReportSize)
	binary.BigEndian.PutUint32(report, channel)
	report[4] = command
	binary.BigEndian.PutUint16(report[5:], uint16(len(body)))
	n := copy(report[firstHead:], body)
	for next := byte(0); ; next++ {
		w.Send(slices.Clone(report))
		if body = body[n:]; len(body) == 0 {
			return
		}
		clear(report[4:])
		report[4] = next
		n = copy(report[nextHead:], body)
	}
}

// Close cancels what the key is doing and waits for its end.
func (w *Wire) Close() {
	w.mu.Lock()
	cancel, done := w.cancel, w.done
	w.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// Reports joins a host to a key by reports, in this process.
func (k *Key) Reports() *Reports {
	r := &Reports{queue: make(chan []byte, 512)}
	r.wire = &Wire{Key: k, Send: func(report []byte) { r.queue <- report }}
	return r
}

// Reports is a [fido2.Reports] with a key at the other end.
type Reports struct {
	wire  *Wire
	queue chan []byte
}

// Send sends to the key.
func (r *Reports) Send(report []byte) error {
	r.wire.Receive(report)
	return nil
}

// Receive waits for the key.
func (r *Reports) Receive(ctx context.Context) ([]byte, error) {
	select {
	case b := <-r.queue:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Inject puts a report between those of the key.
func (r *Reports) Inject(report []byte) { r.queue <- report }

// Close ends what the key is doing.
func (r *Reports) Close() { r.wire.Close() }
