package squashfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// bombs are a MiB of zeros, by compressor.
func bombs(t *testing.T) map[uint16][]byte {
	t.Helper()
	zeros := make([]byte, 1<<20)
	var z, x bytes.Buffer
	w := zlib.NewWriter(&z)
	_, err := w.Write(zeros)
	err = errors.Join(err, w.Close())
	xw, err2 := xz.WriterConfig{CheckSum: xz.CRC32}.NewWriter(&x)
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	_, err = xw.Write(zeros)
	err = errors.Join(err, xw.Close())
	four := make([]byte, lz4.CompressBlockBound(len(zeros)))
	n, err2 := lz4.CompressBlock(zeros, four, nil)
	e, err3 := zstd.NewWriter(nil)
	if err = errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	return map[uint16][]byte{
		compGzip: z.Bytes(), compXZ: x.Bytes(), compLZ4: four[:n], compZstd: e.EncodeAll(zeros, nil), compLZO: lzoZeros(1 << 20),
	}
}

// lzoZeros compresses zeros: one literal run, one long copy of it, the end.
func lzoZeros(n int) []byte {
	b := []byte{17 + 4, 0, 0, 0, 0}
	left := n - 4 - 33 // what 0 stands for in a copy of at least 34 bytes
	b = append(b, 0x20)
	for ; left > 255; left -= 255 {
		b = append(b, 0)
	}
	return append(b, byte(left), 0, 0, 0x11, 0, 0)
}

// code is noise with many calls of every machine in it, so that filters have
// work, and close to each other, which is where x86's is peculiar.
func code(n int) []byte {
	r := rand.New(rand.NewPCG(3, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = []byte{0xe8, 0xe9, 0, 0xff, 0xeb, 0xf0, 0xf8, 0x48, 1, 0x40, 0x7f, byte(r.Uint32())}[r.IntN(12)]
	}
	return b
}

// Filters are undone as xz applies them.
func TestFilters(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("xz"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("xz is needed")
		}
		t.Skip("xz is not installed")
	}
	want := code(30 << 10)
	for _, filters := range []string{
		"", "--x86", "--arm", "--armthumb", "--powerpc", "--sparc", "--x86=start=4096", "--arm=start=8192", "--sparc=start=65536",
		"--x86 --arm", "--powerpc --x86 --armthumb", "--ia64", "--delta=dist=4",
	} {
		checks := []string{"crc32", "crc64", "none", "sha256"}
		if filters != "" {
			checks = checks[:1]
		}
		for _, check := range checks {
			args := append([]string{"-c", "--format=xz", "--check=" + check}, strings.Fields(filters)...)
			cmd := exec.Command("xz", append(args, "--lzma2=preset=0")...)
			cmd.Stdin = bytes.NewReader(want)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			got, err := unxz(packed, len(want))
			if check == "sha256" || strings.Contains("--ia64 --delta=dist=4", filters) && filters != "" {
				if !errors.Is(err, ErrUnsupported) {
					t.Errorf("%s %s: %v", filters, check, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s %s: %d bytes, or others: %v", filters, check, len(got), err)
			}
		}
	}
}

func TestLZOInstructions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"literals", []byte{17 + 3, 'a', 'b', 'c', 0x11, 0, 0}, "abc"},
		{"long literals", append(append([]byte{0, 1}, strings.Repeat("x", 19)...), 0x11, 0, 0), strings.Repeat("x", 19)},
		{"copy into itself", []byte{17 + 4, 'a', 'b', 'c', 'd', 0x20 | 8, 4, 0, 0x11, 0, 0}, "abcdcdcdcdcdcd"},
		{"short copy, literals", []byte{17 + 4, 'a', 'b', 'c', 'd', 0x40 | 0x0c | 2, 0, 'e', 'f', 0x11, 0, 0}, "abcdabcef"},
		{"two after literals", []byte{17 + 1, 'a', 0, 0, 0x11, 0, 0}, "aaa"},
	} {
		got, err := lzo1x(c.in, 100)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		for i := range len(c.in) {
			if _, err := lzo1x(c.in[:i], 100); err == nil {
				t.Errorf("%s, cut at %d: no error", c.name, i)
			}
		}
	}
	for name, in := range map[string][]byte{
		"far copy":  {17 + 4, 'a', 'b', 'c', 'd', 0x20 | 8, 16, 0, 0x11, 0, 0},
		"more":      {17 + 1, 'a', 0x11, 0, 0, 0},
		"no end":    {17 + 1, 'a'},
		"no length": append([]byte{17 + 4, 1, 2, 3, 4, 0x20}, make([]byte, 1<<16)...),
	} {
		if got, err := lzo1x(in, 100); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}
