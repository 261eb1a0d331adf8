package main

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/crypto/xts"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// Commands for the scripts, beside lockport itself. They run as processes of
// their own, so they end with os.Exit.

// mustWork ends a helper whose surroundings are not as it needs them.
func mustWork(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Args[0]+":", err)
		os.Exit(99)
	}
}

// newVolume makes a small volume with one cheap keyslot: new-volume FILE
// [PASSPHRASE [TEXT]]. With TEXT, that is its content, and zeros behind.
func newVolume() {
	args := []string{"", "first", ""}
	copy(args, os.Args[1:])
	image := make([]byte, 2<<20)
	mustWork(os.WriteFile(args[0], image, 0o600))
	f, err := luks2.OpenFile(args[0], false)
	mustWork(err)
	pass := secret.Copy([]byte(args[1]))
	_, key, err := luks2.Format(ctx(), f, pass, luks2.FormatOptions{
		DataOffset: 1 << 20, KeySize: 32, Fast: true,
		KDF: luks2.KDF{Type: luks2.Argon2id, Time: 4, Memory: 32, CPUs: 1},
	})
	mustWork(err)
	if args[2] != "" {
		data := image[:1<<20]
		copy(data, args[2])
		encrypt(data, key)
		_, err = f.WriteAt(data, 1<<20)
		mustWork(err)
	}
	key.Wipe()
	pass.Wipe()
	mustWork(f.Close())
}

func encrypt(data []byte, key *secret.Bytes) {
	c, err := xts.NewCipher(aes.NewCipher, key.Reveal())
	mustWork(err)
	for i := range len(data) / 512 {
		sector := data[512*i : 512*(i+1)]
		c.Encrypt(sector, sector, uint64(i))
	}
}

// unpack writes a vector as an image: unpack VECTOR FILE.
func unpack() {
	in, err := os.Open(os.Args[1])
	mustWork(err)
	r, err := gzip.NewReader(in)
	mustWork(err)
	out, err := os.OpenFile(os.Args[2], os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	mustWork(err)
	_, err = io.Copy(out, r)
	mustWork(err)
	mustWork(out.Close())
}

// poke overwrites bytes of a file: poke FILE OFFSET TEXT.
func poke() {
	f, err := os.OpenFile(os.Args[1], os.O_WRONLY, 0)
	mustWork(err)
	var offset int64
	_, err = fmt.Sscan(os.Args[2], &offset)
	mustWork(err)
	_, err = f.WriteAt([]byte(os.Args[3]), offset)
	mustWork(err)
	mustWork(f.Close())
}

// tokenTool adds a token: add-token FILE JSON.
func tokenTool() {
	f, err := luks2.OpenFile(os.Args[1], false)
	mustWork(err)
	h, err := luks2.Open(ctx(), f)
	mustWork(err)
	_, err = h.AddToken([]byte(os.Args[2]))
	mustWork(err)
	mustWork(h.Commit(ctx()))
	mustWork(f.Close())
}

// serveKey runs a command while the socket "key.sock" hands out the content of
// a file, and says who asked: serve-key FILE COMMAND…
func serveKey() {
	key, err := os.ReadFile(os.Args[1])
	mustWork(err)
	l, err := net.Listen("unix", "key.sock")
	mustWork(err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(os.Stderr, "asked by %q\n", c.RemoteAddr().String())
			_, _ = c.Write(key)
			_ = c.Close()
		}
	}()
	code := pass(exec.Command(os.Args[2], os.Args[3:]...), os.Stdout)
	_ = l.Close()
	os.Exit(code)
}

// withStdout runs a command with a standard output that fails: with-stdout
// full|closed COMMAND…
func withStdout() {
	out, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	mustWork(err)
	if os.Args[1] == "closed" {
		var r *os.File
		r, out, err = os.Pipe()
		mustWork(err)
		mustWork(r.Close())
	}
	os.Exit(pass(exec.Command(os.Args[2], os.Args[3:]...), out))
}

// pass runs a command in place of this one and returns its exit code.
func pass(cmd *exec.Cmd, stdout *os.File) int {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, os.Stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		mustWork(err)
	}
	return cmd.ProcessState.ExitCode()
}

// asNobody is lockport without rights: as-nobody lockport …
func asNobody() {
	if os.Getuid() == 0 {
		mustWork(syscall.Setgroups(nil))
		mustWork(syscall.Setgid(65534))
		mustWork(syscall.Setuid(65534))
	}
	os.Args = os.Args[1:]
	counted()
}

// lowMemory is lockport with room for 768 MiB more than it has at the start:
// plenty for threads, which reserve much, and too little for a derivation of 1 GiB.
func lowMemory() {
	statm, err := os.ReadFile("/proc/self/statm")
	mustWork(err)
	var pages uint64
	_, err = fmt.Fscan(bytes.NewReader(statm), &pages)
	mustWork(err)
	limit := pages*uint64(os.Getpagesize()) + 768<<20
	mustWork(syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: limit, Max: limit}))
	os.Args = os.Args[1:]
	counted()
}

// printable shows a transcript without the bytes that move a cursor.
func printable(transcript []byte) string {
	return strings.NewReplacer("\r\n", "\n", "\r", "", "\b", "").Replace(string(transcript))
}
