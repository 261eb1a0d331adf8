package pkcs11

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/pkcs11/pkcs11test"
	"github.com/lockport/lockport/volume/volumetest"
)

// body is the part of a message behind its header.
const body = headerSize

// A module that answers nonsense costs an error, whatever the call; none hangs, and
// none makes us take memory for what it claims to send.
func TestHostileModule(t *testing.T) {
	t.Parallel()
	key := keysOnce().a
	private, public := pkcs11test.RSA(key, "01", "key")
	token := sealed(t, cardURI, key)
	change := func(f func(m []byte) []byte) func(uint32, []byte) []byte {
		return func(_ uint32, m []byte) []byte { return f(bytes.Clone(m)) }
	}
	put := func(at int, v uint32) func(m []byte) []byte {
		return func(m []byte) []byte { binary.BigEndian.PutUint32(m[at:], v); return m }
	}
	for _, c := range []struct {
		name   string
		answer func(uint32, []byte) []byte
		want   error
	}{
		{"garbage", change(func(m []byte) []byte { return bytes.Repeat([]byte{0xa5}, 64) }), ErrResponse},
		{"zeros", change(func(m []byte) []byte { return make([]byte, 64) }), ErrResponse},
		{"another number", change(put(0, 99)), ErrResponse},
		{"a huge message", change(put(8, 1<<31)), ErrResponse},
		{"huge options", change(put(4, 1<<31)), ErrResponse},
		{"too little", change(func(m []byte) []byte { return append(put(8, 5)(m)[:body], m[body:body+5]...) }), ErrResponse},
		{"another call", change(put(body, 77)), ErrResponse},
		{"another signature", change(func(m []byte) []byte { m[body+8] ^= 1; return m }), ErrResponse},
		{"a huge signature", change(put(body+4, 1<<30)), ErrResponse},
		{"an error that is none", change(func(m []byte) []byte {
			return answer(m, append([]byte{0, 0, 0, 0, 0, 0, 0, 1, 'u'}, make([]byte, 8)...))
		}), ErrResponse},
		{"too much", change(func(m []byte) []byte { return answer(m, append(bytes.Clone(m[body:]), 0)) }), ErrResponse},
		{"death", func(uint32, []byte) []byte { return nil }, ErrGone},
		{"death in a message", change(func(m []byte) []byte { return m[:len(m)-1] }), errSlow},
		{"silence", func(uint32, []byte) []byte { return []byte{} }, errSlow},
	} {
		for _, call := range []function{fInitialize, fGetSlotList, fGetTokenInfo, fGetSlotInfo, fOpenSession, fLogin, fFindObjectsInit,
			fFindObjects, fFindObjectsFinal, fGetAttributeValue, fDecryptInit, fDecrypt} {
			if c.name == "another signature" && call.response == "" {
				continue
			}
			t.Run(c.name+" to "+call.name, func(t *testing.T) {
				t.Parallel()
				r := withToken(1, card1(), private, public)
				r.Answer = func(n uint32, m []byte) []byte {
					if n != call.number {
						return m
					}
					return c.answer(n, m)
				}
				l := fake(r)
				if c.want == errSlow {
					l.machine, l.person = 100*time.Millisecond, 100*time.Millisecond
				}
				pass, err := (&Key{Library: l}).Unlock(t.Context(), token, &volumetest.Asker{Answers: []string{"1234"}})
				pass.Wipe()
				if !errors.Is(err, c.want) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// answer replaces the body of a message.
func answer(m, body []byte) []byte {
	m = append(bytes.Clone(m[:headerSize]), body...)
	binary.BigEndian.PutUint32(m[8:], uint32(len(body)))
	return m
}

// Lists and arrays that claim more than there is, or more than there may be.
func TestLyingLengths(t *testing.T) {
	t.Parallel()
	key := keysOnce().a
	private, public := pkcs11test.RSA(key, "01", "key")
	payload := body + 4 + 4
	for _, c := range []struct {
		call function
		at   int // behind the signature
		v    uint32
	}{
		{fGetSlotList, 1, 1 << 30}, {fGetSlotList, 1, 2}, {fGetSlotList, 1, maxSlots + 1}, {fFindObjects, 1, 1 << 30}, {fFindObjects, 1, 65},
		{fGetAttributeValue, 0, 1 << 30}, {fGetAttributeValue, 0, 0}, {fGetAttributeValue, 4, 99}, {fGetTokenInfo, 0, 1 << 30},
		{fGetTokenInfo, 0, 31}, {fDecrypt, 1, 1 << 30}, {fDecrypt, 1, 0}, {fDecrypt, 1, 3},
	} {
		r := withToken(1, card1(), private, public)
		r.Answer = func(n uint32, m []byte) []byte {
			if n == c.call.number {
				binary.BigEndian.PutUint32(m[payload+len(c.call.response)+c.at:], c.v)
			}
			return m
		}
		pass, err := (&Key{Library: fake(r)}).Unlock(t.Context(), sealed(t, cardURI, key), &volumetest.Asker{Answers: []string{"1234"}})
		pass.Wipe()
		if !errors.Is(err, ErrResponse) {
			t.Errorf("%s at %d with %d: %v", c.call.name, c.at, c.v, err)
		}
	}
}

// The first byte is the version.
func TestHandshake(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer []byte
		want   error
	}{{[]byte{3}, ErrResponse}, {nil, ErrGone}, {[]byte{0}, nil}, {[]byte{2}, nil}} {
		ours, theirs := net.Pipe()
		go func() {
			defer ours.Close()
			if _, err := io.ReadFull(ours, make([]byte, 1)); err == nil {
				_, _ = ours.Write(c.answer)
			}
		}()
		conn, err := newConn(t.Context(), theirs)
		if !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.answer, err)
		}
		if err == nil {
			_ = conn.close()
		}
	}
}

// A request that is too long is not sent, and breaks nothing.
func TestLongRequest(t *testing.T) {
	t.Parallel()
	l := fake(withToken(1, card1()))
	c, err := l.start(t.Context(), l.Modules[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if _, err := c.find(t.Context(), 0, []attribute{{attrLabel, make([]byte, maxRequest)}}); err == nil || !strings.Contains(err.Error(), "request of more than") {
		t.Errorf("%v", err)
	}
	if list, err := c.slots(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// script puts a program called p11-kit into PATH-like reach and returns what starts
// it.
func script(t *testing.T, text string) Dial {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p11-kit")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return func(_ context.Context, m Module) (io.ReadWriteCloser, error) {
		return startChild(path, m.Path, []string{"A=b"})
	}
}

// A child that ends tells why; one that hangs is killed, and what it has started
// holds nobody up.
func TestChild(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script, text string
		want               error
	}{
		{"complains", "echo \"p11-kit: couldn't load module: $2\" >&2; exit 1", "couldn't load module: /lib/x.so", ErrGone},
		{"complains without end", "while echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do :; done >&2", "does not answer", errSlow},
		{"hangs", "exec sleep 1000", "does not answer", errSlow},
		{"hangs in a child", "sleep 5", "does not answer", errSlow},
		{"prints", "yes", "", ErrResponse},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := &Library{Modules: []Module{{Path: "/lib/x.so"}}, Dial: script(t, c.script)}
			ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errSlow)
			defer cancel()
			_, err := l.start(ctx, l.Modules[0])
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.HasPrefix(err.Error(), "PKCS#11 module /lib/x.so: ") {
				t.Errorf("%v", err)
			}
		})
	}
}

// The child has the environment that it is given, and nothing in its arguments but
// the module.
func TestChildEnvironment(t *testing.T) {
	t.Parallel()
	l := &Library{Modules: []Module{{Path: "/lib/x.so"}}, Dial: script(t, `printf 'args %s, env %s' "$*" "$(tr '\0' ' ' </proc/$$/environ)" >&2`)}
	_, err := l.start(t.Context(), l.Modules[0])
	if err == nil || !strings.HasSuffix(err.Error(), ": args remote /lib/x.so, env A=b") {
		t.Errorf("%v", err)
	}
}

func TestNoP11Kit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Remote(nil); !errors.Is(err, ErrNoP11Kit) {
		t.Errorf("%v", err)
	}
}

// Nothing is left of a child, however it was ended.
func TestChildIsReaped(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sleep"); err != nil {
		t.Skip("sleep is not installed")
	}
	rw, err := script(t, "exec sleep 1000")(t.Context(), Module{})
	if err != nil {
		t.Fatal(err)
	}
	c := rw.(*child)
	pid := c.cmd.Process.Pid
	_ = c.Close()
	if c.cmd.ProcessState == nil {
		t.Errorf("process %d was not waited for", pid)
	}
}
