package tpm2

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// node is a device node of the kernel's: one write, one read.
type node struct{ fd int }

func openNode(path string) (Device, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return nil, fmt.Errorf("%w: %w", ErrNoTPM, &os.PathError{Op: "open", Path: path, Err: err})
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return node{fd}, nil
}

func (n node) Send(command []byte) ([]byte, error) {
	if _, err := again(func() (int, error) { return unix.Write(n.fd, command) }); err != nil {
		return nil, fmt.Errorf("sending to the TPM: %w", err)
	}
	response := make([]byte, maxResponse)
	size, err := again(func() (int, error) { return unix.Read(n.fd, response) })
	if err != nil {
		return nil, fmt.Errorf("reading from the TPM: %w", err)
	}
	return response[:size], nil
}

// again repeats a system call that a signal interrupted.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (n node) Close() error { return unix.Close(n.fd) }
