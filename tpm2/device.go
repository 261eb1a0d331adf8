package tpm2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Device carries commands to a TPM 2.0, one at a time, and brings back its
// responses, which then belong to the caller. If it also is an io.Closer, whoever
// opened it closes it.
type Device interface {
	Send(command []byte) (response []byte, err error)
}

// Bounds of what crosses the wire, in bytes; TPMs use at most 4096.
const (
	headerSize  = 10
	maxResponse = 8192
)

// Open opens a device as systemd names them: "auto" for the machine's only TPM,
// an absolute path or device:PATH for a device node, swtpm:host=H,port=P or
// swtpm:path=SOCKET for a software TPM. root is the directory under which /dev and
// /sys are, "/" as a rule. It returns an error wrapping [ErrNoTPM] when there is
// none. The caller closes the device.
func Open(ctx context.Context, root, name string) (Device, error) {
	if name == "" || name == "auto" {
		list, err := List(root)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, ErrNoTPM
		}
		if len(list) > 1 {
			return nil, fmt.Errorf("there are %d TPMs, one has to be named", len(list))
		}
		name = list[0].Path
	}
	driver, arg, found := strings.Cut(name, ":")
	switch {
	case strings.HasPrefix(name, "/"):
		return openNode(filepath.Join(root, name))
	case found && driver == "device" && strings.HasPrefix(arg, "/"):
		return openNode(filepath.Join(root, arg))
	case driver == "swtpm":
		return openSocket(ctx, arg)
	}
	return nil, fmt.Errorf("%q is no name of a TPM", name)
}

// Found is a TPM of this machine.
type Found struct {
	Path   string // of the device node
	Device string // how the bus calls it, "MSFT0101:00"; "" if unknown
	Driver string // "tpm_tis"; "" if unknown
}

// List returns the machine's TPMs. root is as for [Open].
func List(root string) ([]Found, error) {
	const class = "sys/class/tpmrm"
	entries, err := os.ReadDir(filepath.Join(root, class))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("looking for TPMs: %w", err)
	}
	var list []Found
	for _, e := range entries {
		device := filepath.Join(root, class, e.Name(), "device")
		list = append(list, Found{"/dev/" + e.Name(), linkName(device), linkName(filepath.Join(device, "driver"))})
	}
	return list, nil
}

// linkName returns the last part of where a link leads, "" where there is none.
func linkName(path string) string {
	to, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// Present tells whether a TPM exists, or is on its way: the firmware has handed
// one over whose driver is yet to come. root is as for [Open].
func Present(root string) bool {
	if list, err := List(root); err == nil && len(list) > 0 {
		return true
	}
	// The kernel offers the firmware's TPM 2.0 log, or its ACPI table, without
	// a driver.
	for _, path := range []string{"sys/kernel/security/tpm0/binary_bios_measurements", "sys/firmware/acpi/tables/TPM2"} {
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			return true
		}
	}
	return false
}

// pollTime is how often a TPM that is on its way is looked for.
const pollTime = 100 * time.Millisecond

// Wait is [Open] for a TPM that may still be on its way, as early in a boot: as
// long as the firmware says that there is one, it waits for the driver until ctx
// ends. It does not wait for a TPM that does not exist.
func Wait(ctx context.Context, root, name string) (Device, error) {
	for {
		dev, err := Open(ctx, root, name)
		if !errors.Is(err, ErrNoTPM) || strings.HasPrefix(name, "swtpm:") || !Present(root) {
			return dev, err
		}
		if ended := sleep(ctx, pollTime); ended != nil {
			return nil, fmt.Errorf("%w: %w", err, ended)
		}
	}
}

// openSocket dials a software TPM. The arguments are those of the TPM2 software
// stack's transport of that name.
func openSocket(ctx context.Context, args string) (Device, error) {
	set := map[string]string{"host": "localhost", "port": "2321"}
	for _, a := range strings.Split(args, ",") {
		key, value, found := strings.Cut(a, "=")
		if a == "" {
			continue
		}
		if !found || key != "host" && key != "port" && key != "path" {
			return nil, fmt.Errorf("%q is no argument of a software TPM", a)
		}
		set[key] = value
	}
	network, address := "tcp", net.JoinHostPort(set["host"], set["port"])
	if set["path"] != "" {
		network, address = "unix", set["path"]
	}
	var d net.Dialer
	for n := 0; ; n++ {
		c, err := d.DialContext(ctx, network, address)
		if err == nil {
			return &socket{c}, nil
		}
		// A software TPM takes one caller after the other, and lets few wait.
		if !errors.Is(err, syscall.EAGAIN) || n == maxRepeats {
			return nil, fmt.Errorf("%w: %w", ErrNoTPM, err)
		}
		if err := sleep(ctx, pollTime); err != nil {
			return nil, err
		}
	}
}

// socket speaks to a software TPM: responses come as a stream.
type socket struct{ net.Conn }

// answerTime bounds how long a software TPM may think. Making an RSA key takes
// it seconds.
const answerTime = 2 * time.Minute

func (s *socket) Send(command []byte) ([]byte, error) {
	if err := s.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	if _, err := s.Write(command); err != nil {
		return nil, err
	}
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(s, head); err != nil {
		return nil, err
	}
	c := &cursor{b: head[2:]}
	size := c.u32()
	if size < headerSize || size > maxResponse {
		return nil, fmt.Errorf("%w: %d bytes", ErrResponse, size)
	}
	response := append(head, make([]byte, size-headerSize)...)
	_, err := io.ReadFull(s, response[headerSize:])
	return response, err
}

// Counter counts the commands that pass through to a device. It is safe for
// concurrent use if the device is.
type Counter struct {
	Device
	n atomic.Int64
}

// Send passes a command on.
func (c *Counter) Send(command []byte) ([]byte, error) {
	c.n.Add(1)
	return c.Device.Send(command)
}

// Count returns how many commands there were.
func (c *Counter) Count() int { return int(c.n.Load()) }

// Close closes the device if it can be closed.
func (c *Counter) Close() error { return closeDevice(c.Device) }

func closeDevice(d Device) error {
	if c, ok := d.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
