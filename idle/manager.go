package idle

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// firstFD is the descriptor of the first socket: SD_LISTEN_FDS_START.
const firstFD = 3

// notifyTimeout bounds a notification when the manager does not read.
const notifyTimeout = 5 * time.Second

// Manager is what the service manager that started this process has given it. A
// nil Manager has given nothing.
type Manager struct {
	// Listeners are the sockets of the service's socket units, in the order of
	// their Listen lines. They are none if the service was not started for a socket.
	Listeners []net.Listener
	// Names are the listeners' FileDescriptorName= settings, in the same order.
	Names []string

	notify string // address of the notification socket, or ""
}

// FromManager takes the sockets and the notification address from the environment,
// as sd_listen_fds(3) and sd_notify(3) describe it, and removes the variables, so
// that no child takes them for its own. Call it once, when the program starts. The
// sockets must be listening stream sockets: those of units with Accept=no.
func FromManager() (*Manager, error) {
	read := takeEnvironment("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET")
	m := &Manager{notify: read["NOTIFY_SOCKET"]}
	names, err := parseListen(read, os.Getpid())
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		l, err := inherit(firstFD+i, name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("socket %d (%s) of %d from the service manager: %w", i+1, name, len(names), err),
				closeAll(m.Listeners))
		}
		m.Listeners, m.Names = append(m.Listeners, l), append(m.Names, name)
	}
	return m, nil
}

func takeEnvironment(names ...string) map[string]string {
	values := map[string]string{}
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok {
			values[name] = v
			os.Unsetenv(name) // fails only for names that can't be
		}
	}
	return values
}

// parseListen returns the names of the sockets that are for the process with this
// ID, "unknown" where they have none.
func parseListen(env map[string]string, self int) ([]string, error) {
	text, ok := env["LISTEN_PID"]
	if !ok {
		return nil, nil
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid <= 0 {
		return nil, fmt.Errorf("LISTEN_PID is %q, not a process ID", text)
	}
	if pid != self {
		return nil, nil
	}
	const most = 1 << 16 // more than a manager hands over, few enough to be counted
	n, err := strconv.Atoi(env["LISTEN_FDS"])
	if err != nil || n < 0 || n > most {
		return nil, fmt.Errorf("LISTEN_FDS is %q, not a number of sockets", env["LISTEN_FDS"])
	}
	list, ok := env["LISTEN_FDNAMES"]
	if !ok || n == 0 {
		names := make([]string, n)
		for i := range names {
			names[i] = "unknown"
		}
		return names, nil
	}
	names := strings.Split(list, ":")
	if len(names) != n {
		return nil, fmt.Errorf("LISTEN_FDNAMES has %d names for %d sockets", len(names), n)
	}
	return names, nil
}

// Named returns the listeners of that name, which several may share.
func (m *Manager) Named(name string) []net.Listener {
	if m == nil {
		return nil
	}
	var found []net.Listener
	for i, l := range m.Listeners {
		if m.Names[i] == name {
			found = append(found, l)
		}
	}
	return found
}

// Notify tells the manager about the service's state, in one message of
// assignments as sd_notify(3) lists them, such as "STATUS=3 open". Without a manager
// that wants to know it does nothing. That it returns nil says only that the message
// is on its way. Server sends READY=1 and STOPPING=1 by itself. It is safe for
// concurrent use.
func (m *Manager) Notify(assignments ...string) error {
	if m == nil || m.notify == "" {
		return nil
	}
	if err := m.send(assignments); err != nil {
		return fmt.Errorf("notifying the service manager: %w", err)
	}
	return nil
}

func (m *Manager) send(assignments []string) error {
	for _, a := range assignments {
		if strings.Contains(a, "\n") || !strings.Contains(a, "=") {
			return fmt.Errorf("%q is no assignment", a)
		}
	}
	if m.notify[0] != '/' && m.notify[0] != '@' {
		return fmt.Errorf("NOTIFY_SOCKET is %q, not the address of a Unix socket", m.notify)
	}
	// A leading @ stands for the abstract namespace to package net too.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.notify, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err = c.Write([]byte(strings.Join(assignments, "\n")))
	return err
}
