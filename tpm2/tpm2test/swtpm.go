package tpm2test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// T is what a test gives a software TPM: a [testing.TB], or a script.
type T interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	Cleanup(f func())
}

// Software is a software TPM that runs for the time of a test.
type Software struct {
	t      T
	dir    string // of its socket; short, as addresses of sockets must be
	socket string
}

// Start starts swtpm with the state in a .tar.gz archive, "" for a new one, and
// powers it on. The test is skipped where there is no swtpm, but fails where CI
// is set.
func Start(t T, archive string) *Software {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("swtpm is needed")
		}
		t.Skip("swtpm is not installed")
	}
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if archive != "" {
		unpack(t, archive, dir)
	}
	s := &Software{t: t, dir: dir, socket: filepath.Join(dir, "s")}
	var log logBuffer
	cmd := exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+s.socket,
		"--ctrl", "type=unixio,path="+s.socket+".ctrl", "--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	s.await(ended, &log)
	return s
}

// logBuffer is what swtpm prints; it is read once swtpm has ended.
type logBuffer struct{ text []byte }

func (l *logBuffer) Write(b []byte) (int, error) {
	l.text = append(l.text, b...)
	return len(b), nil
}

// await waits until the socket answers.
func (s *Software) await(ended chan error, log *logBuffer) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		if c, err := net.Dial("unix", s.socket); err == nil {
			_ = c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			s.t.Fatalf("swtpm ended: %v\n%s", err, log.text)
		case <-ctx.Done():
			s.t.Fatal("swtpm does not answer")
		case <-tick.C:
		}
	}
}

// unpack puts the files of an archive into a folder, leaving out their own.
func unpack(t T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Socket returns the path of the socket that takes commands. It takes one client
// at a time.
func (s *Software) Socket() string { return s.socket }

// Send sends one command over a connection of its own.
func (s *Software) Send(command []byte) ([]byte, error) {
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(command); err != nil {
		return nil, err
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[2:])-10)
	_, err = io.ReadFull(c, rest)
	return append(head, rest...), err
}

// Event measures data into a PCR in all banks.
func (s *Software) Event(pcr int, data string) {
	s.t.Helper()
	s.must(pcrEvent, pcr, append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...))
}

// Extend extends the SHA-256 bank of a PCR with the hash of data.
func (s *Software) Extend(pcr int, data string) {
	s.t.Helper()
	sum := sha256.Sum256([]byte(data))
	s.must(pcrExtend, pcr, append([]byte{0, 0, 0, 1, 0, 0x0b}, sum[:]...))
}

// Measure extends a PCR with an event's digests, by the names of the banks.
func (s *Software) Measure(pcr int, digests map[string][]byte) {
	s.t.Helper()
	algs := map[string]uint16{"sha1": 0x04, "sha256": 0x0b, "sha384": 0x0c, "sha512": 0x0d}
	params := binary.BigEndian.AppendUint32(nil, uint32(len(digests)))
	for name, digest := range digests {
		params = append(binary.BigEndian.AppendUint16(params, algs[name]), digest...)
	}
	s.must(pcrExtend, pcr, params)
}

// Run runs a command that needs no more than the empty password of one handle,
// and has to succeed: its parameters come after the authorisation.
func (s *Software) Run(code, handle uint32, params []byte) {
	s.t.Helper()
	auth := []byte{0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}
	body := append(binary.BigEndian.AppendUint32(nil, handle), append(auth, params...)...)
	if err := s.check(Command(code, body)); err != nil {
		s.t.Fatal(err)
	}
}

// Reset puts PCR 16 or 23 back to zeros: the two that software may reset.
func (s *Software) Reset(pcr int) {
	s.t.Helper()
	s.must(pcrReset, pcr, nil)
}

// Boot measures a kernel image's sections and a phase into PCR 11, as the boot
// stub does.
func (s *Software) Boot(sections [][2]string, phase string) {
	s.t.Helper()
	for _, section := range sections {
		s.Extend(11, "."+section[0]+"\x00")
		s.Extend(11, section[1])
	}
	s.Extend(11, phase)
}

// must runs a command on a PCR.
func (s *Software) must(code uint32, pcr int, params []byte) {
	s.t.Helper()
	s.Run(code, uint32(pcr), params)
}

// Command makes a command with sessions from all that follows its code.
func Command(code uint32, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tagSessions)
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

func (s *Software) check(command []byte) error {
	response, err := s.Send(command)
	if err == nil && binary.BigEndian.Uint32(response[6:]) != 0 {
		err = fmt.Errorf("command %#x: %s", Code(command), hex.EncodeToString(response))
	}
	return err
}

// Loaded returns the handles of all sessions and transient objects in the TPM:
// none, after work well done.
func (s *Software) Loaded() []uint32 {
	s.t.Helper()
	var all []uint32
	for _, first := range []uint32{0x02000000, 0x03000000, 0x80000000} {
		b := []byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 1}
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, first), 64)
		response, err := s.Send(b)
		if err != nil || len(response) < 19 {
			s.t.Fatal(response, err)
		}
		for list := response[19:]; len(list) >= 4; list = list[4:] {
			all = append(all, binary.BigEndian.Uint32(list))
		}
	}
	return all
}
