package fido2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Port is where security keys are plugged in. It is safe for concurrent use.
type Port interface {
	// List returns the keys that are there now, in no order that means anything.
	List() ([]Found, error)
	// Open connects to a key by its path. The caller closes the connection if it
	// is an io.Closer. The error wraps [ErrGone] if there is no such key any more
	// and [ErrNotFIDO2] for another device.
	Open(ctx context.Context, path string) (Conn, error)
}

// Found is a security key that is plugged in.
type Found struct {
	Path                  string // of the device node
	ID                    string // another one each time that a key is plugged in
	Manufacturer, Product string // "" if unknown
}

// String is the name of a key for a person.
func (f Found) String() string {
	if f.Product == "" {
		return "security key " + f.Path
	}
	if strings.HasPrefix(f.Product, f.Manufacturer) {
		return f.Product
	}
	return f.Manufacturer + " " + f.Product
}

// Hidraw are the keys that the kernel offers as HID devices. Root is the directory
// under which /dev and /sys are, "/" as a rule.
type Hidraw struct{ Root string }

var _ Port = Hidraw{}

// maxDescriptor is that of the kernel, in bytes.
const maxDescriptor = 4096

// maxKeys is how many keys are looked at.
const maxKeys = 32

// List looks through the HID devices for those with the usage of security keys.
func (p Hidraw) List() ([]Found, error) {
	const class = "sys/class/hidraw"
	entries, err := os.ReadDir(filepath.Join(p.Root, class))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("looking for security keys: %w", err)
	}
	var list []Found
	for _, e := range entries {
		dir := filepath.Join(p.Root, class, e.Name())
		device := filepath.Join(dir, "device")
		b, err := readSome(filepath.Join(device, "report_descriptor"), maxDescriptor)
		if err != nil {
			continue // gone again
		}
		if _, err := parseDescriptor(b); err != nil {
			continue
		}
		id, err := os.Readlink(dir)
		if err != nil {
			id = e.Name()
		}
		f := Found{Path: "/dev/" + e.Name(), ID: id}
		f.Manufacturer, f.Product = names(device)
		if list = append(list, f); len(list) == maxKeys {
			break
		}
	}
	return list, nil
}

// names returns what the key calls itself: to the USB, or to the HID layer.
func names(device string) (manufacturer, product string) {
	// The HID device hangs on an interface of the USB device.
	if to, err := filepath.EvalSymlinks(device); err == nil {
		usb := filepath.Dir(filepath.Dir(to))
		manufacturer, product = attribute(filepath.Join(usb, "manufacturer")), attribute(filepath.Join(usb, "product"))
	}
	if product != "" {
		return manufacturer, product
	}
	b, err := readSome(filepath.Join(device, "uevent"), maxDescriptor)
	if err != nil {
		return "", ""
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "HID_NAME="); ok {
			return "", printable(name)
		}
	}
	return "", ""
}

func attribute(path string) string {
	b, err := readSome(path, 256)
	if err != nil {
		return ""
	}
	return printable(string(b))
}

// printable keeps a name that a device gives itself from steering a terminal.
func printable(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\ufffd' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.TrimSpace(clean)
}

// readSome reads at most so many bytes of a file.
func readSome(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// Open opens a device node.
func (p Hidraw) Open(ctx context.Context, path string) (Conn, error) {
	return openNode(ctx, filepath.Join(p.Root, path))
}

// sorted puts keys in the order of their paths.
func sorted(list []Found) []Found {
	slices.SortFunc(list, func(a, b Found) int { return strings.Compare(a.Path, b.Path) })
	return list
}
