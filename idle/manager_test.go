package idle

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseListen(t *testing.T) {
	t.Parallel()
	const pid, n, names = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
	for _, c := range []struct {
		env  map[string]string
		want []string
		fail string
	}{
		{nil, nil, ""},
		{map[string]string{n: "1"}, nil, ""}, // for nobody
		{map[string]string{pid: "8", n: "x"}, nil, ""},
		{map[string]string{pid: "7", n: "0"}, nil, ""},
		{map[string]string{pid: "7", n: "0", names: ""}, nil, ""},
		{map[string]string{pid: "7", n: "2"}, []string{"unknown", "unknown"}, ""},
		{map[string]string{pid: "7", n: "2", names: "a.socket:b"}, []string{"a.socket", "b"}, ""},
		{map[string]string{pid: "7", n: "1", names: ""}, []string{""}, ""},
		{map[string]string{pid: "7", n: "1", names: "a:b"}, nil, "2 names for 1 sockets"},
		{map[string]string{pid: "7", n: "3", names: "a:b"}, nil, "2 names for 3 sockets"},
		{map[string]string{pid: "7"}, nil, "LISTEN_FDS"},
		{map[string]string{pid: "7", n: "-1"}, nil, "LISTEN_FDS"},
		{map[string]string{pid: "7", n: "99999999"}, nil, "LISTEN_FDS"},
		{map[string]string{pid: "7", n: "99999999999999999999"}, nil, "LISTEN_FDS"},
		{map[string]string{pid: "", n: "1"}, nil, "LISTEN_PID"},
		{map[string]string{pid: "0", n: "1"}, nil, "LISTEN_PID"},
		{map[string]string{pid: "7 ", n: "1"}, nil, "LISTEN_PID"},
	} {
		got, err := parseListen(c.env, 7)
		if !slices.Equal(got, c.want) || (err != nil) != (c.fail != "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%v: %q, %v, not %q, %q", c.env, got, err, c.want, c.fail)
		}
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	a, b, c := new(net.TCPListener), new(net.TCPListener), new(net.TCPListener)
	m := &Manager{Listeners: []net.Listener{a, b, c}, Names: []string{"x", "y", "x"}}
	if got := m.Named("x"); len(got) != 2 || got[0] != a || got[1] != c {
		t.Errorf("got %v", got)
	}
	if got := (*Manager)(nil).Named("x"); got != nil {
		t.Errorf("got %v from no manager", got)
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	for _, address := range []string{path, "@lockport-test-" + filepath.Base(t.TempDir()) + path} {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
		if err != nil {
			t.Logf("%s: %v", address, err) // no abstract names here
			continue
		}
		defer c.Close()
		m := &Manager{notify: address}
		if err := m.Notify("READY=1", "STATUS=it = fine"); err != nil {
			t.Error(err)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 100)
		n, err := c.Read(b)
		if string(b[:n]) != "READY=1\nSTATUS=it = fine" || err != nil {
			t.Errorf("received %q, %v", b[:n], err)
		}
		for _, bad := range []string{"READY", "STATUS=a\nSTOPPING=1"} {
			if err := m.Notify(bad); err == nil {
				t.Errorf("%q was sent", bad)
			}
		}
	}
}

func TestNotifyNobody(t *testing.T) {
	t.Parallel()
	for _, m := range []*Manager{nil, {}} {
		if err := m.Notify("READY=1"); err != nil {
			t.Error(err)
		}
	}
	for _, address := range []string{"relative", "vsock:2:1", filepath.Join(t.TempDir(), "none")} {
		if err := (&Manager{notify: address}).Notify("READY=1"); err == nil {
			t.Errorf("no error for %s", address)
		}
	}
}

func TestTakeEnvironment(t *testing.T) {
	t.Setenv("LISTEN_FDS", "2")
	t.Setenv("LISTEN_FDNAMES", "")
	t.Setenv("NOTIFY_SOCKET", "/x")
	t.Setenv("LISTEN_PID", "1") // not ours
	m, err := FromManager()
	if err != nil || len(m.Listeners) != 0 || m.notify != "/x" {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, name := range []string{"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%s is left for children", name, v)
		}
	}
}
