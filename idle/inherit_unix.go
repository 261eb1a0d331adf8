//go:build unix

package idle

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// inherit makes a listener of a descriptor that was open when the program
// started. It is of this process only: closing it leaves the manager's alone, and
// no path of a Unix socket is removed.
func inherit(fd int, name string) (net.Listener, error) {
	listening, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if listening == 0 {
		return nil, errors.New("not a listening stream socket")
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return net.FileListener(f) // a copy that is closed on exec
}
