package idle_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// describe starts a process with the files as a service manager does, and returns
// what it says of them. A shell knows the process ID that the program will have.
func describe(t *testing.T, names string, files ...*os.File) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), "IDLE_TEST_SERVER=describe", "LISTEN_FDNAMES="+names, fmt.Sprintf("LISTEN_FDS=%d", len(files)))
	cmd.ExtraFiles = files
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestFromManager(t *testing.T) {
	t.Parallel()
	addrs, files := listen(t)
	got, err := describe(t, "web.socket:other:web.socket", files...)
	if err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf("web.socket tcp %v\nother tcp %v\nweb.socket unix %v\n", addrs[0], addrs[1], addrs[2])
	if got != want {
		t.Errorf("got %q, not %q", got, want)
	}
	// What the process closed is still open here, and in its place.
	for _, a := range addrs {
		c, err := net.Dial(a.Network(), a.String())
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
}

// Sockets that nothing can be accepted from are refused by name.
func TestFromManagerRefuses(t *testing.T) {
	t.Parallel()
	_, files := listen(t)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	datagrams, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for what, bad := range map[string]*os.File{"not a listening stream socket": datagrams, "socket operation on non-socket": plain} {
		got, err := describe(t, "good:bad", files[0], bad)
		if err == nil || !strings.Contains(got, "socket 2 (bad) of 2") || !strings.Contains(got, what) {
			t.Errorf("%v: %q, not %q", err, got, what)
		}
	}
}

// READY when it serves, STOPPING when there is no way back.
func TestNotifications(t *testing.T) {
	t.Parallel()
	_, files := listen(t)
	address := filepath.Join(t.TempDir(), "notify")
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	m := &standIn{kind: "http", count: filepath.Join(t.TempDir(), "count"), sockets: files, notify: address}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	heard.SetReadDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		b := make([]byte, 100)
		n, err := heard.Read(b)
		if string(b[:n]) != want || err != nil {
			t.Errorf("heard %q, %v, not %q", b[:n], err, want)
		}
	}
}
