package uki_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/lockport/lockport/tpm2/uki"
	"github.com/lockport/lockport/tpm2/uki/ukitest"
)

func small() []byte {
	return ukitest.Build(ukitest.Section{Name: ".text", Content: "code"}, ukitest.Section{Name: ".linux", Content: "KERNEL"},
		ukitest.Section{Name: ".initrd", Content: strings.Repeat("I", 700)})
}

// Fields of the entry of a section, and where the second and third entries are.
const (
	fieldSize, fieldAddress, fieldInFile, fieldOffset = 8, 12, 16, 20

	linuxEntry, initrdEntry = ukitest.Table64 + 40, ukitest.Table64 + 80
)

// TestDamage changes one number of a good image at a time.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at    int
		width int
		value uint32
		want  string
	}{
		{0, 2, 0x1234, "no PE file"},
		{0x3c, 4, 0xffffffff, "PE header: the file ends too soon"},
		{0x3c, 4, 0, "no PE file"},
		{ukitest.PE, 4, 0, "no PE file"},
		{ukitest.PE + 4, 2, 0x1234, "machine 0x1234"},
		{ukitest.PE + 6, 2, 0, "no .linux section"},
		{ukitest.PE + 6, 2, 1024, "section table: the file ends too soon"},
		{ukitest.PE + 6, 2, 0xffff, "65535 sections, more than 1024"},
		{ukitest.PE + 20, 2, 69, "optional header of 69 bytes"},
		{ukitest.PE + 20, 2, 0xffff, "section table: the file ends too soon"},
		{ukitest.Optional, 2, 0x107, "optional header of kind 0x107"},
		{ukitest.Optional + 56, 4, 0x1000, "outside the image's 4096 bytes of memory"},
		{ukitest.Optional + 68, 2, 3, "subsystem 3, no EFI program"},
		{linuxEntry, 1, '_', "no .linux section"},
		{linuxEntry, 4, 0, "no .linux section"},
		{linuxEntry + fieldSize, 4, 0xffffffff, `section ".linux": it ends outside the image's`},
		{linuxEntry + fieldSize, 4, 0x1001, "the sections .linux and .initrd overlap in memory"},
		{linuxEntry + fieldAddress, 4, 0xfffffffe, `section ".linux": it ends outside the image's`},
		{linuxEntry + fieldAddress, 4, 0x1001, "the sections .text and .linux overlap in memory"},
		{linuxEntry + fieldInFile, 4, 0xffffffff, `section ".linux": it ends at 4294968319, outside the file of 2560 bytes`},
		{linuxEntry + fieldInFile, 4, 0x201, "the sections .linux and .initrd overlap in the file"},
		{linuxEntry + fieldOffset, 4, 0xffffffff, `section ".linux": it ends at 4294967807, outside the file`},
		{initrdEntry + fieldOffset, 4, 0x601, `section ".initrd": it ends at 2561, outside the file`},
		{initrdEntry, 4, uint32(binary.LittleEndian.Uint32([]byte(".lin"))), ""},
	} {
		image := small()
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], c.value)
		copy(image[c.at:c.at+c.width], b[:])
		img, err := uki.Parse(bytes.NewReader(image), int64(len(image)), 0)
		if c.want == "" {
			if err != nil {
				t.Errorf("%#x: %v", c.at, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || img != nil {
			t.Errorf("%#x = %#x: %v, not %s", c.at, c.value, err, c.want)
		}
	}
}

// TestHugeSections lies about sizes that the headers agree on.
func TestHugeSections(t *testing.T) {
	t.Parallel()
	image := ukitest.Build(ukitest.Section{Name: ".linux", Content: "L", Size: 1<<30 + 1<<10})
	if _, err := uki.Parse(bytes.NewReader(image), int64(len(image)), 0); err == nil || !strings.Contains(err.Error(), "that are not in the file") {
		t.Error(err)
	}
	image = ukitest.Build(ukitest.Section{Name: ".linux", Content: "L", Size: 64 << 20})
	img := parse(t, image, 0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := uki.Measure(t.Context(), img.Sections(), "sha256"); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes were allocated for one section", n)
	}
}

func TestManySections(t *testing.T) {
	t.Parallel()
	var many []ukitest.Section
	for i := range 1024 {
		many = append(many, ukitest.Section{Name: fmt.Sprintf(".s%d", i)})
	}
	many[500] = ukitest.Section{Name: ".linux", Content: "L"}
	if got := contents(t, parse(t, ukitest.Build(many...), 0)); got != "linux=L" {
		t.Error(got)
	}
	many[700].Name = ".linux"
	image := ukitest.Build(many...)
	if _, err := uki.Parse(bytes.NewReader(image), int64(len(image)), 0); err == nil || err.Error() != "two .linux sections" {
		t.Error(err)
	}
}

// TestTruncated cuts an image at each byte.
func TestTruncated(t *testing.T) {
	t.Parallel()
	image := small()
	for n := range len(image) {
		if img, err := uki.Parse(bytes.NewReader(image[:n]), int64(n), 0); err == nil || img != nil {
			t.Fatalf("%d bytes are enough", n)
		}
		if n < 0x40 {
			_, err := uki.Parse(bytes.NewReader(image[:n]), int64(n), 0)
			if !errors.Is(err, uki.ErrNotUKI) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		r := &failingAfter{bytes.NewReader(small()), n}
		if _, err := uki.Parse(r, int64(len(small())), 0); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("%d: %v", n, err)
		}
	}
}

type failingAfter struct {
	io.ReaderAt
	n int
}

func (f *failingAfter) ReadAt(b []byte, at int64) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errors.New("broken")
	}
	return f.ReaderAt.ReadAt(b, at)
}

func FuzzImage(f *testing.F) {
	f.Add(small(), 0)
	f.Add(ukitest.Kind{PE32: true}.Build(ukitest.Section{Name: ".linux", Content: "x", Size: 600}), 0)
	f.Add(ukitest.Build(ukitest.Section{Name: ".sdmagic", Content: "#### LoaderInfo: systemd-stub 257 ####"},
		ukitest.Section{Name: ".linux", Content: "L"}, ukitest.Section{Name: ".profile", Content: "ID=a"},
		ukitest.Section{Name: ".profile", Content: "ID=b"}, ukitest.Section{Name: ".cmdline", Content: "b"}), 1)
	f.Fuzz(func(t *testing.T, image []byte, profile int) {
		img, err := uki.Parse(bytes.NewReader(image), int64(len(image)), profile)
		if err != nil {
			if img != nil {
				t.Error("an image comes with an error")
			}
			return
		}
		total := int64(0)
		for _, s := range img.Sections() {
			// Zeros are quick to skip but not to hash: a little of each is enough.
			n, err := io.Copy(io.Discard, io.LimitReader(s.Content, 1<<20))
			if err != nil {
				t.Errorf("section %s: %v", s.Name, err)
			}
			total += n
		}
		if img.Section("linux") == nil || total > int64(13)<<20 {
			t.Errorf("%d bytes of sections", total)
		}
	})
}
