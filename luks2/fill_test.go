package luks2_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/lockport/lockport/luks2"
)

// What is filled in is what a reader finds, up to the last byte that there is room
// for; no more is written.
func TestFill(t *testing.T) {
	t.Parallel()
	for _, sector := range []int{512, 4096} {
		for _, n := range []int{0, 1, 511, 512, 513, 4096, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
			_, h, key := formatted(t, luks2.FormatOptions{SectorSize: sector})
			seg, err := h.Segment()
			if err != nil {
				t.Fatal(err)
			}
			size := seg.Offset + 1<<20 + 8192
			disk := make([]byte, size)
			data := luks2.NewMemory(disk)
			content := bytes.Repeat([]byte("0123456789abcde"), n/15+1)[:n]
			if got, err := h.Fill(t.Context(), data, size, key, iotest.OneByteReader(bytes.NewReader(content))); got != int64(n) || err != nil {
				t.Fatalf("%d bytes: %d, %v", n, got, err)
			}
			r, err := h.NewReader(data, size, key)
			if err != nil {
				t.Fatal(err)
			}
			have := make([]byte, (n+sector-1)/sector*sector)
			if _, err := r.ReadAt(have, 0); err != nil || !bytes.Equal(have[:n], content) || len(bytes.Trim(have[n:], "\x00")) > 0 {
				t.Errorf("%d bytes in sectors of %d: other content, %v", n, sector, err)
			}
			if n > 600 && bytes.Contains(disk, content[:32]) {
				t.Errorf("%d bytes: some are not encrypted", n)
			}
			if behind := disk[int(seg.Offset)+len(have):]; len(bytes.Trim(behind, "\x00")) > 0 {
				t.Errorf("%d bytes: something is written behind", n)
			}
		}
	}
}

func TestFillRefused(t *testing.T) {
	t.Parallel()
	_, h, key := formatted(t, luks2.FormatOptions{})
	seg, err := h.Segment()
	if err != nil {
		t.Fatal(err)
	}
	size := seg.Offset + 8192
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	broken := errors.New("broken")
	for _, c := range []struct {
		name    string
		ctx     context.Context
		content io.Reader
		want    error
	}{
		{"too long", t.Context(), bytes.NewReader(make([]byte, 8193)), io.ErrShortWrite},
		{"unreadable", t.Context(), iotest.ErrReader(broken), broken},
		{"cancelled", gone, bytes.NewReader(make([]byte, 10)), context.Canceled},
	} {
		disk := make([]byte, size)
		data := luks2.NewMemory(disk)
		if n, err := h.Fill(c.ctx, data, size, key, c.content); !errors.Is(err, c.want) || n != 0 {
			t.Errorf("%s: %d, %v", c.name, n, err)
		}
		if len(bytes.Trim(disk, "\x00")) > 0 {
			t.Errorf("%s: something was written", c.name)
		}
	}
}
