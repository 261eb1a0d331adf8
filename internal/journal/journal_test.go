package journal

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	defer l.Close()
	must(t, Send(t.Context(), socket, [][2]string{{"MESSAGE", "a=b"}, {"X", "1\nMESSAGE=2"}, {"X", ""}}))
	b := make([]byte, 1<<10)
	n, err := l.Read(b)
	must(t, err)
	want := "MESSAGE=a=b\nX\n\x0b\x00\x00\x00\x00\x00\x00\x001\nMESSAGE=2\nX=\n"
	if diff := cmp.Diff(want, string(b[:n])); diff != "" {
		t.Error(diff)
	}
}

func TestSendFails(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	if err := Send(t.Context(), socket, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	defer l.Close()
	if err := Send(t.Context(), socket, [][2]string{{"X", strings.Repeat("x", 64<<20)}}); err == nil {
		t.Error("64 MiB fit into a datagram")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Send(ctx, socket, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// Nobody reads; the queue of the socket is soon full.
	for range 1 << 16 {
		if err = Send(t.Context(), socket, [][2]string{{"X", strings.Repeat("x", 64<<10)}}); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("it never gives up")
	}
}
