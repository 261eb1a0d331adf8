package volume_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lockport/lockport/volume"
)

func TestKeySource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte("0123456789\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source volume.KeySource
		want   string
		err    string // with the file's folder cut off
	}{
		{source: volume.KeySource{Path: path}, want: "0123456789\n"},
		{source: volume.KeySource{Path: path, Offset: 3}, want: "3456789\n"},
		{source: volume.KeySource{Path: path, Offset: 3, Size: 4}, want: "3456"},
		{source: volume.KeySource{Path: path, Size: 12}, err: "key file key: reading 12 bytes: unexpected EOF"},
		{source: volume.KeySource{Path: path, Size: volume.MaxKeySize + 1}, err: "key file key: 67108865 bytes are asked for, at most 67108864 are allowed"},
		{source: volume.KeySource{Path: dir + "/none"}, err: "key file none: no such file or directory"},
		{source: volume.KeySource{Path: dir + "/"}, err: "key file : is a directory"},
	} {
		got, err := c.source.Read(t.Context())
		if string(got.Reveal()) != c.want {
			t.Errorf("%+v: %q", c.source, got.Reveal())
		}
		text := ""
		if err != nil {
			text = strings.ReplaceAll(err.Error(), dir+"/", "")
		}
		if text != c.err {
			t.Errorf("%+v: %s", c.source, text)
		}
		got.Wipe()
	}
}

func TestKeySourceErases(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("once"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := path + ".link"
	if err := os.Link(path, other); err != nil {
		t.Fatal(err)
	}
	got, err := volume.KeySource{Path: path, Erase: true}.Read(t.Context())
	if err != nil || string(got.Reveal()) != "once" {
		t.Errorf("%v", err)
	}
	got.Wipe()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the key file is still there: %v", err)
	}
	if left, err := os.ReadFile(other); err != nil || string(left) != "\x00\x00\x00\x00" {
		t.Errorf("under its other name there is still %q, %v", left, err)
	}
}

// keyServer listens at a path that is short enough for an address.
func keyServer(t *testing.T) (net.Listener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "key")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener, path
}

// A server learns from the address of the client which volume wants its key.
func TestKeySocket(t *testing.T) {
	t.Parallel()
	listener, path := keyServer(t)
	peers := make(chan string, 1)
	go func() {
		defer close(peers)
		for range 2 {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			peers <- c.RemoteAddr().String()
			_, _ = c.Write([]byte("of the socket"))
			_ = c.Close()
		}
	}()
	source := volume.KeySource{Path: path, Caller: "cryptsetup", Volume: "data"}
	got, err := source.Read(t.Context())
	if err != nil || string(got.Reveal()) != "of the socket" {
		t.Errorf("%v", err)
	}
	got.Wipe()
	if peer := <-peers; !regexp.MustCompile(`^@[0-9a-f]{1,16}/cryptsetup/data$`).MatchString(peer) {
		t.Errorf("the server sees %q", peer)
	}
	source.Offset = 1
	if _, err := source.Read(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "/s: a socket has no offset") {
		t.Errorf("with an offset: %v", err)
	}
}

// A server that accepts and says nothing holds nobody up for good.
func TestKeySocketCancelled(t *testing.T) {
	t.Parallel()
	listener, path := keyServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if c, err := listener.Accept(); err == nil {
			defer c.Close()
			cancel()
			<-t.Context().Done()
		}
	}()
	if _, err := (volume.KeySource{Path: path, Caller: "cryptsetup"}).Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
