package volume

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"crypto/rand"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/secret"
)

// MaxKeySize is the most that a key file may hold, in bytes, as for systemd.
const MaxKeySize = 64 << 20

// KeySource is where a key file's bytes are.
type KeySource struct {
	Path   string
	Offset int64 // bytes to skip
	Size   int64 // bytes to read; 0 for all
	// Caller names the purpose and Volume the volume to a key server, which
	// learns them from the address that we connect from: "cryptsetup".
	Caller, Volume string
	Erase          bool // overwrite and remove the file after reading
	// Warn is told what is odd about the file; may be nil.
	Warn func(text string)
}

// Read returns the key, newline and all. The caller wipes it. A file that is a
// socket is connected to and read to its end.
func (k KeySource) Read(ctx context.Context) (*secret.Bytes, error) {
	key, err := k.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", k.Path, err)
	}
	return key, nil
}

// read is Read with errors that leave it to the caller to name the file.
func (k KeySource) read(ctx context.Context) (*secret.Bytes, error) {
	// Without blocking: a named pipe without a writer must not hang.
	f, err := os.OpenFile(k.Path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENXIO) {
		return k.readSocket(ctx)
	}
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	key, err := k.readFile(f)
	if k.Erase {
		if gone := eraseFile(k.Path); gone != nil {
			k.warn(fmt.Sprintf("erasing the key file: %v", gone))
		}
	}
	return key, withoutPath(err)
}

// withoutPath takes away what the caller says anyway.
func withoutPath(err error) error {
	if p, ok := err.(*fs.PathError); ok {
		return p.Err
	}
	return err
}

func (k KeySource) warn(text string) {
	if k.Warn != nil {
		k.Warn(text)
	}
}

func (k KeySource) readFile(f *os.File) (*secret.Bytes, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return nil, unix.EISDIR
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0 {
		k.warn(fmt.Sprintf("key file %s can be read by everybody", k.Path))
	}
	if k.Offset > 0 {
		if _, err := f.Seek(k.Offset, io.SeekStart); err != nil {
			return nil, err
		}
	}
	if k.Size > MaxKeySize {
		return nil, fmt.Errorf("%d bytes are asked for, at most %d are allowed", k.Size, MaxKeySize)
	}
	if k.Size == 0 {
		return secret.ReadAll(f, MaxKeySize)
	}
	key := secret.New(int(k.Size))
	if _, err := io.ReadFull(f, key.Reveal()); err != nil {
		key.Wipe()
		return nil, fmt.Errorf("reading %d bytes: %w", k.Size, err)
	}
	return key, nil
}

// readSocket connects from an address that tells the server which volume the
// key is for. Protocol: systemd, src/basic/fileio.c, and crypttab(5),
// "AF_UNIX key files".
func (k KeySource) readSocket(ctx context.Context) (*secret.Bytes, error) {
	if k.Offset > 0 {
		return nil, errors.New("a socket has no offset")
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := k.connect(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("connecting to the socket: %w", err), unix.Close(fd))
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), k.Path)
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	key, err := secret.ReadAll(f, MaxKeySize)
	if ctx.Err() != nil {
		key.Wipe()
		return nil, ctx.Err()
	}
	return key, err
}

func (k KeySource) connect(fd int) error {
	// x/sys writes a leading @ as the NUL of an abstract address.
	if k.Caller != "" {
		name := &unix.SockaddrUnix{Name: "@" + randomHex() + "/" + k.Caller + "/" + k.Volume}
		if err := unix.Bind(fd, name); err != nil {
			return err
		}
	}
	return unix.Connect(fd, &unix.SockaddrUnix{Name: k.Path})
}

func randomHex() string {
	var b [8]byte
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(b[:])
	return string(bytes.TrimLeft([]byte(hex.EncodeToString(b[:])), "0"))
}

// eraseFile overwrites a file with zeros before it is removed. On media that
// write elsewhere, and file systems that copy on write, that promises little.
func eraseFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
		if _, err := io.CopyN(f, zeros{}, st.Size()); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return os.Remove(path)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
