package luks2_test

import (
	"compress/gzip"
	"crypto/aes"
	"io"
	"os"
	"testing"

	"golang.org/x/crypto/xts"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/secret/secrettest"
)

func TestMain(m *testing.M) {
	victim()
	secrettest.Main(m)
}

const vectors = "../testdata/vectors"

// cheap is the least that a keyslot may cost.
var cheap = luks2.KDF{Type: luks2.Argon2id, Time: 4, Memory: 32, CPUs: 1}

// text returns a secret that the test wipes.
func text(t testing.TB, s string) *secret.Bytes {
	t.Helper()
	b := secret.Copy([]byte(s))
	t.Cleanup(b.Wipe)
	return b
}

func wiped(t testing.TB, s *secret.Bytes) *secret.Bytes {
	t.Helper()
	t.Cleanup(s.Wipe)
	return s
}

func gunzip(t testing.TB, path string) []byte {
	t.Helper()
	return gunzipHead(t, path, 1<<30)
}

// gunzipHead returns up to n bytes of a compressed file.
func gunzipHead(t testing.TB, path string, n int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.LimitReader(z, n))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// formatted returns a small new volume with the passphrase "first".
func formatted(t testing.TB, o luks2.FormatOptions) (*luks2.Memory, *luks2.Header, *secret.Bytes) {
	t.Helper()
	size := 2 << 20
	if o.Detached {
		size = luks2.DefaultHeaderArea
	} else if o.DataOffset == 0 {
		o.DataOffset = 1 << 20
	}
	s := luks2.NewMemory(make([]byte, size))
	if o.KeySize == 0 {
		o.KeySize = 32
	}
	o.Fast = true
	if o.KDF.Type == "" {
		o.KDF = cheap
	}
	h, key, err := luks2.Format(t.Context(), s, text(t, "first"), o)
	if err != nil {
		t.Fatal(err)
	}
	return s, h, wiped(t, key)
}

func reopen(t testing.TB, s luks2.Store) *luks2.Header {
	t.Helper()
	h, err := luks2.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// encryptXTS writes plain as dm-crypt would: the number of a sector counts in
// 512 bytes, however large the sectors are.
func encryptXTS(t testing.TB, s luks2.Store, key *secret.Bytes, plain []byte, at int64, sector int) {
	t.Helper()
	c, err := xts.NewCipher(aes.NewCipher, key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(plain))
	for i := 0; i < len(plain); i += sector {
		c.Encrypt(out[i:i+sector], plain[i:i+sector], uint64(i/512))
	}
	if _, err := s.WriteAt(out, at); err != nil {
		t.Fatal(err)
	}
}
