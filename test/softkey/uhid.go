//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockport/lockport/fido2/fido2test"
)

// The events of uhid; Linux, include/uapi/linux/uhid.h. Each is a type and a
// structure without gaps in the byte order of the machine.
const (
	uhidDestroy = 1
	uhidOutput  = 6
	uhidCreate2 = 11
	uhidInput2  = 12

	eventSize  = 4 + 4372 // of the longest
	dataMax    = 4096
	nameSize   = 128
	physSize   = 64
	uniqSize   = 64
	busUSB     = 3
	vendor     = 0x1209 // of free software
	product    = 0xf1d0
	outputSize = 4 + dataMax // where the size of an output stands
)

// nodeTime is how long the kernel and udev may take to make the node.
const nodeTime = 30 * time.Second

// device is a key that is plugged in.
type device struct {
	f    *os.File
	wire *fido2test.Wire
	uniq string
}

// plug creates the HID device.
func plug(k *fido2test.Key) (*device, error) {
	f, err := os.OpenFile("/dev/uhid", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	d := &device{f: f, uniq: fmt.Sprintf("softkey-%d", os.Getpid())}
	d.wire = &fido2test.Wire{Key: k, Send: d.input}
	event := binary.NativeEndian.AppendUint32(nil, uhidCreate2)
	event = appendText(event, k.Name(), nameSize)
	event = appendText(event, "", physSize)
	event = appendText(event, d.uniq, uniqSize)
	event = binary.NativeEndian.AppendUint16(event, uint16(len(fido2test.Descriptor)))
	event = binary.NativeEndian.AppendUint16(event, busUSB)
	for _, n := range []uint32{vendor, product, 1, 0} {
		event = binary.NativeEndian.AppendUint32(event, n)
	}
	event = append(event, fido2test.Descriptor...)
	if _, err := f.Write(append(event, make([]byte, eventSize-len(event))...)); err != nil {
		return nil, errors.Join(fmt.Errorf("creating the device: %w", err), f.Close())
	}
	return d, nil
}

func appendText(b []byte, text string, size int) []byte {
	field := make([]byte, size)
	copy(field[:size-1], text)
	return append(b, field...)
}

// input sends a report to the kernel.
func (d *device) input(report []byte) {
	event := binary.NativeEndian.AppendUint32(nil, uhidInput2)
	event = binary.NativeEndian.AppendUint16(event, uint16(len(report)))
	event = append(event, report...)
	_, _ = d.f.Write(event) // a device that is going needs no answer
}

// serve takes reports from the kernel until the device is gone.
func (d *device) serve() error {
	event := make([]byte, eventSize)
	for {
		n, err := d.f.Read(event)
		if err != nil {
			return err
		}
		if n < 4 || binary.NativeEndian.Uint32(event) != uhidOutput {
			continue
		}
		size := int(binary.NativeEndian.Uint16(event[outputSize:]))
		if size < 1 || size > dataMax {
			continue
		}
		d.wire.Receive(event[4+1 : 4+size]) // without the report's number
	}
}

// path waits for the device node.
func (d *device) path() (string, error) {
	for end := time.Now().Add(nodeTime); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		files, err := filepath.Glob("/sys/class/hidraw/*/device/uevent")
		if err != nil {
			return "", err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), "HID_UNIQ="+d.uniq+"\n") {
				continue
			}
			path := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(file)))
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", errors.New("the kernel made no hidraw node")
}

// Close pulls the key out.
func (d *device) Close() error {
	event := binary.NativeEndian.AppendUint32(nil, uhidDestroy)
	_, err := d.f.Write(event)
	return errors.Join(err, d.f.Close())
}
