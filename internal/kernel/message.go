package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Layout of the messages to the device-mapper, in the machine's byte order.
//
// Source: Linux, include/uapi/linux/dm-ioctl.h.
const (
	headerSize = 312 // struct dm_ioctl
	targetSize = 40  // struct dm_target_spec, before the parameter text
	targetName = 16

	offVersion, offDataSize, offDataStart, offTargets = 0, 12, 16, 20
	offOpen, offFlags, offEvent, offDev               = 24, 28, 32, 40
	offName, offUUID                                  = 48, 176
)

// Flags of a message.
const (
	flagReadOnly   = 1 << 0
	flagBufferFull = 1 << 8
	flagUevent     = 1 << 13 // reply: udev will hear of the change
	flagSecure     = 1 << 15 // the kernel wipes its copy of the message
)

// protocol is the interface version we ask for: any 4.x kernel serves it.
const protocol = 4

var errReply = errors.New("malformed reply from the device-mapper")

// message is the part of struct dm_ioctl that we send or read. A device is
// named by its name or, when that is empty, by its number.
type message struct {
	name, uuid string
	dev        uint64
	flags      uint32
	event      uint32 // flags and cookie for udev
	targets    uint32
	open       int32 // reply: how often the device is open
	data       []byte
}

// put writes the header of m into buf, which is as long as the whole message
// and holds m's data behind the header. Names must fit.
func (m message) put(buf []byte) {
	e := binary.NativeEndian
	clear(buf[:headerSize])
	e.PutUint32(buf[offVersion:], protocol)
	e.PutUint32(buf[offDataSize:], uint32(len(buf)))
	e.PutUint32(buf[offDataStart:], headerSize)
	e.PutUint32(buf[offTargets:], m.targets)
	e.PutUint32(buf[offFlags:], m.flags)
	e.PutUint32(buf[offEvent:], m.event)
	e.PutUint64(buf[offDev:], m.dev)
	copy(buf[offName:offName+maxName], m.name)
	copy(buf[offUUID:offUUID+maxUUID], m.uuid)
}

// parseReply reads what the kernel wrote back into buf. The data of the result
// lies in buf.
func parseReply(buf []byte) (message, error) {
	if len(buf) < headerSize {
		return message{}, errReply
	}
	e := binary.NativeEndian
	m := message{
		name:    text(buf[offName : offName+maxName+1]),
		uuid:    text(buf[offUUID : offUUID+maxUUID+1]),
		dev:     e.Uint64(buf[offDev:]),
		flags:   e.Uint32(buf[offFlags:]),
		event:   e.Uint32(buf[offEvent:]),
		targets: e.Uint32(buf[offTargets:]),
		open:    int32(e.Uint32(buf[offOpen:])),
	}
	if m.flags&flagBufferFull != 0 {
		return message{}, fmt.Errorf("%w: it does not fit %d bytes", errReply, len(buf))
	}
	// Calls that return no data leave the length at the header's own, or zero.
	start, end := e.Uint32(buf[offDataStart:]), e.Uint32(buf[offDataSize:])
	if end > headerSize {
		if start < headerSize || start > end || uint64(end) > uint64(len(buf)) {
			return message{}, errReply
		}
		m.data = buf[start:end]
	}
	return m, nil
}

// text returns the bytes before the first NUL.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// tableSize returns the length of a message that loads one target with n bytes
// of parameters: they end in NUL and the whole is a multiple of eight.
func tableSize(n int) int { return (headerSize + targetSize + n + 1 + 7) &^ 7 }

// putTarget writes one target of the given length in sectors behind the header.
// The parts make up the parameters together; this way a key in the middle of
// them is copied into buf and nowhere else.
func putTarget(buf []byte, kind string, sectors uint64, parts ...[]byte) {
	e := binary.NativeEndian
	spec := buf[headerSize:]
	clear(spec)
	e.PutUint64(spec[8:], sectors)
	e.PutUint32(spec[20:], uint32(len(spec)))
	copy(spec[24:24+targetName-1], kind)
	params := spec[targetSize:]
	for _, p := range parts {
		params = params[copy(params, p):]
	}
}

// majorMinor splits a device number as the device-mapper gives it.
func majorMinor(dev uint64) (major, minor uint32) {
	return uint32(dev>>8) & 0xfff, uint32(dev&0xff) | uint32(dev>>12)&0xfff00
}

// number writes a device number as MAJOR:MINOR.
func number(major, minor uint32) string { return fmt.Sprintf("%d:%d", major, minor) }
