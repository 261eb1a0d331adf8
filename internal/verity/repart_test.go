package verity

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/lockport/lockport/internal/gpt"
)

// repartImage is a signed image made by systemd-repart; testdata/repart.sh says
// how.
func repartImage(t *testing.T) (image ram, certificate *x509.Certificate) {
	t.Helper()
	f, err := os.Open("testdata/repart.img.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if image, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("testdata/repart.crt")
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err = ParseCertificate(b); err != nil {
		t.Fatal(err)
	}
	return image, certificate
}

// From the bytes of an image to its verified content, as all who open one go.
func TestImageOfSystemdRepart(t *testing.T) {
	t.Parallel()
	image, certificate := repartImage(t)
	table, err := gpt.Read(&image, int64(len(image)))
	if err != nil || table.Damage() != nil {
		t.Fatal(err, table.Damage())
	}
	c, err := table.Choose(gpt.Wanted{Architecture: "x86-64", Verity: &gpt.Verity{}})
	if err != nil || c.Protected != gpt.Root || c.Partitions[gpt.Root].Label != "vector_1" {
		t.Fatalf("%+v, %v", c, err)
	}
	section := func(d gpt.Designator) *io.SectionReader { return c.Partitions[d].Section(&image) }
	text, err := io.ReadAll(section(gpt.RootVeritySig))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSignature(text)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(certificate.Raw); !bytes.Equal(s.Fingerprint, sum[:]) {
		t.Errorf("fingerprint %x, not %x", s.Fingerprint, sum)
	}
	if err := check(s.PKCS7, s.RootHash, certificate); err != nil {
		t.Error(err)
	}
	r, err := NewReader(section(gpt.Root), section(gpt.RootVerity), s.RootHash)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), 0); err != nil {
		t.Error(err)
	}
	data := make([]byte, 40960)
	if _, err := r.ReadAt(data, 0); err != nil || !bytes.Equal(data, numbers(len(data))) {
		t.Errorf("other content: %v", err)
	}
	byHash, err := table.Choose(gpt.Wanted{Architecture: "x86-64", Verity: &gpt.Verity{Hash: s.RootHash}})
	if err != nil || byHash.Protected != gpt.Root {
		t.Errorf("%+v, %v", byHash, err)
	}
	image[c.Partitions[gpt.Root].Offset+5000] ^= 1
	var corrupt *CorruptError // of block 9: systemd 252 makes trees over blocks of 512 bytes
	if _, err := r.ReadAt(data, 0); !errors.As(err, &corrupt) || corrupt.Block != 9 {
		t.Error(err)
	}
}

// numbers is what the recipe puts into the image.
func numbers(n int) []byte {
	var b []byte
	for i := 1; len(b) < n; i++ {
		b = append(b, strconv.Itoa(1000000 + i)[1:]...)
		b = append(b, '\n')
	}
	return b[:n]
}
