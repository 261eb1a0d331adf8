// Package bus talks D-Bus. So far it is a client of the service manager: it meets
// portable.Manager with what systemd offers at org.freedesktop.systemd1.
//
// Interface: org.freedesktop.systemd1(5), systemd 248 and later.
package bus

import "errors"

var (
	// ErrLost: the connection ended before the answer was there.
	ErrLost = errors.New("the connection to the service manager was lost")
	// ErrAddress: the address of the system bus is none that can be used.
	ErrAddress = errors.New("no usable address of the system bus")
)

// DefaultPrivate is the manager's own socket, which only root may use. It works
// without a bus daemon: early at boot, and where there is none.
const DefaultPrivate = "/run/systemd/private"

// DefaultAddress is where the system bus is unless something else is said.
const DefaultAddress = "unix:path=/run/dbus/system_bus_socket"
