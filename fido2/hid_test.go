package fido2_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/fido2/fido2test"
	"github.com/lockport/lockport/volume/volumetest"
)

var sizes = fido2.Sizes{In: fido2test.ReportSize, Out: fido2test.ReportSize}

// joined is a key at the other end of reports.
func joined(t testing.TB, c fido2test.Config) (*fido2.HID, *fido2test.Reports) {
	t.Helper()
	r := fido2test.New(c).Reports()
	t.Cleanup(r.Close)
	h, err := fido2.OpenHID(t.Context(), r, sizes)
	if err != nil {
		t.Fatal(err)
	}
	return h, r
}

// wired is a port with one key at the other end of reports.
type wired struct {
	fido2test.Port
	h *fido2.HID
}

func (w *wired) Open(context.Context, string) (fido2.Conn, error) { return w.h, nil }

// TestReports does everything over reports: messages of several packets, signs of life,
// and packets of others in between.
func TestReports(t *testing.T) {
	t.Parallel()
	k := fido2test.New(fido2test.Config{PIN: "2468", Touch: "slow"})
	r := k.Reports()
	t.Cleanup(r.Close)
	h, err := fido2.OpenHID(t.Context(), r, sizes)
	if err != nil {
		t.Fatal(err)
	}
	p, d := &wired{h: h}, &diary{}
	p.Plug(k)
	stranger := make([]byte, fido2test.ReportSize)
	binary.BigEndian.PutUint32(stranger, 77)
	copy(stranger[4:], []byte{0x90, 0, 1, 0})
	r.Inject(stranger)
	e := enrollerFor(p, d)
	e.PIN, e.UP = true, true
	r.Inject(stranger)
	token := makeToken(t, e, "2468")
	r.Inject(stranger)
	pass, err := keyFor(p, d).Unlock(t.Context(), token, &volumetest.Asker{Answers: []string{"2468"}})
	if err != nil {
		t.Fatal(err)
	}
	pass.Wipe()
	if d.count("touch") != 3 {
		t.Errorf("told:\n%s", d)
	}
}

// TestCancel ends a call while the key waits, and then the next one works.
func TestCancel(t *testing.T) {
	t.Parallel()
	h, _ := joined(t, fido2test.Config{Touch: "wait"})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := h.Call(ctx, []byte{0x0b}, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if b, err := h.Call(t.Context(), []byte{0x04}, nil); err != nil || b[0] != 0 {
		t.Errorf("answer %x: %v", b, err)
	}
}

// script is a device that says what it is told to.
type script struct {
	init    func(nonce []byte) [][]byte
	answers [][]byte
	queue   [][]byte
}

func (s *script) Send(report []byte) error {
	if report[4] == 0x86 {
		s.queue = append(s.queue, s.init(report[7:15])...)
	} else {
		s.queue = append(s.queue, s.answers...)
	}
	return nil
}

func (s *script) Receive(ctx context.Context) ([]byte, error) {
	if len(s.queue) > 0 {
		b := s.queue[0]
		s.queue = s.queue[1:]
		return b, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// report is a packet for channel 5.
func report(head ...byte) []byte {
	b := make([]byte, fido2test.ReportSize)
	binary.BigEndian.PutUint32(b, 5)
	copy(b[4:], head)
	return b
}

func initAnswer(nonce []byte, capabilities byte) []byte {
	b := report(0x86, 0, 17)
	binary.BigEndian.PutUint32(b, 0xffffffff)
	copy(b[7:], nonce)
	binary.BigEndian.PutUint32(b[15:], 5)
	b[23] = capabilities
	return b
}

func goodInit(nonce []byte) [][]byte {
	other := initAnswer(bytes.Repeat([]byte{9}, 8), 4)
	return [][]byte{other, initAnswer(nonce, 4)}
}

// TestOddDevices has devices that do not keep to the rules.
func TestOddDevices(t *testing.T) {
	t.Parallel()
	big := make([][]byte, 0, 200)
	big = append(big, report(0x90, 0xff, 0xff, 0))
	for _, c := range []struct {
		name    string
		answers [][]byte
		want    []byte
		err     error
	}{
		{"short", [][]byte{report(0x90, 0, 1, 0x2e)}, []byte{0x2e}, nil},
		{"empty", [][]byte{report(0x90, 0, 0)}, nil, nil},
		{"a report that is cut off before", [][]byte{{1, 2}, report(0x90, 0, 1, 7)}, []byte{7}, nil},
		{"what is left of another message before", [][]byte{report(3, 9, 9), report(0x90, 0, 1, 7)}, []byte{7}, nil},
		{"signs of life within", [][]byte{report(0x90, 0, 60, 1), report(0xbb, 0, 1, 1), report(0, 2, 3, 4)}, append(append([]byte{1}, make([]byte, 56)...), 2, 3, 4), nil},
		{"packets in the wrong order", [][]byte{report(0x90, 0, 120), report(1)}, nil, fido2.ErrResponse},
		{"more than a message can be", big, nil, fido2.ErrResponse},
		{"an error", [][]byte{report(0xbf, 0, 1, 1)}, nil, fido2.HIDError(1)},
		{"a cut off answer", [][]byte{report(0x90, 0, 200)}, nil, context.DeadlineExceeded},
		{"no answer", nil, nil, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, err := fido2.OpenHID(t.Context(), &script{init: goodInit, answers: c.answers}, sizes)
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			if errors.Is(c.err, context.DeadlineExceeded) {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 1)
				defer cancel()
			}
			got, err := h.Call(ctx, []byte{4}, nil)
			if !errors.Is(err, c.err) || !bytes.Equal(got, c.want) {
				t.Errorf("%x, %v", got, err)
			}
		})
	}
	for _, capabilities := range []byte{0, 1} {
		_, err := fido2.OpenHID(t.Context(), &script{init: func(nonce []byte) [][]byte { return [][]byte{initAnswer(nonce, capabilities)} }}, sizes)
		if !errors.Is(err, fido2.ErrNotFIDO2) {
			t.Errorf("capabilities %d: %v", capabilities, err)
		}
	}
}

// TestBusy repeats what a busy device refused.
func TestBusy(t *testing.T) {
	t.Parallel()
	n := 0
	s := &script{}
	s.init = func(nonce []byte) [][]byte {
		if n++; n < 3 {
			b := report(0xbf, 0, 1, 6)
			binary.BigEndian.PutUint32(b, 0xffffffff)
			return [][]byte{b}
		}
		return goodInit(nonce)
	}
	if _, err := fido2.OpenHID(t.Context(), s, sizes); err != nil || n != 3 {
		t.Errorf("%d attempts: %v", n, err)
	}
}

// FuzzReports feeds what a device sends.
func FuzzReports(f *testing.F) {
	f.Add([]byte{0x90, 0, 1, 0})
	f.Add([]byte{0x90, 0, 60, 1})
	f.Add([]byte{0xbb, 0, 1, 2})
	f.Add(append(report(0x90, 0, 100)[4:], report(0)[4:]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var answers [][]byte
		for len(data) > 0 {
			n := min(len(data), fido2test.ReportSize-4)
			answers = append(answers, report(data[:n]...))
			data = data[n:]
		}
		ctx, cancel := context.WithCancel(t.Context())
		s := &script{init: goodInit, answers: answers}
		h, err := fido2.OpenHID(ctx, s, sizes)
		if err != nil {
			t.Fatal(err)
		}
		go cancel()
		_, _ = h.Call(ctx, []byte{4}, func() {})
		cancel()
	})
}
