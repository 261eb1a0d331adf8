package luks2

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	//lint:ignore SA1019 volumes made with it exist and want to be opened
	"golang.org/x/crypto/twofish"
	"golang.org/x/crypto/xts"

	"github.com/lockport/lockport/secret"
)

const sectorSize = 512

// A sectorCipher encrypts sectors whose IVs count from a sector number.
type sectorCipher interface {
	Encrypt(dst, src []byte, sector uint64)
	Decrypt(dst, src []byte, sector uint64)
}

// A suite is one cipher that we can run ourselves.
type suite struct {
	name     string // as in the header
	keySizes []int  // bytes
	open     func(key []byte) (sectorCipher, error)
}

// suites lists what keyslot areas and our own reader can use. Null and ECB
// never belong here.
var suites = []suite{
	{"aes-xts-plain64", []int{32, 64}, newXTS(aes.NewCipher)},
	{"twofish-xts-plain64", []int{32, 64}, newXTS(func(k []byte) (cipher.Block, error) { return twofish.NewCipher(k) })},
	{"aes-cbc-essiv:sha256", []int{16, 24, 32}, newESSIV},
}

// kernelCiphers lists what may be handed to dm-crypt: length-preserving modes
// with an IV that depends on the sector.
var kernelCiphers = []string{
	"aes-xts-plain64", "aes-xts-plain", "aes-xts-essiv:sha256",
	"aes-cbc-essiv:sha256", "aes-cbc-plain64", "aes-cbc-plain", "aes-lrw-benbi",
	"serpent-xts-plain64", "serpent-xts-plain", "serpent-cbc-essiv:sha256", "serpent-cbc-plain64",
	"twofish-xts-plain64", "twofish-xts-plain", "twofish-cbc-essiv:sha256", "twofish-cbc-plain64",
	"camellia-xts-plain64", "camellia-cbc-essiv:sha256", "aria-xts-plain64", "sm4-xts-plain64",
	"xchacha12,aes-adiantum-plain64", "xchacha20,aes-adiantum-plain64",
}

func findSuite(name string, keySize int) (suite, error) {
	for _, s := range suites {
		if s.name != name {
			continue
		}
		if !slices.Contains(s.keySizes, keySize) {
			return s, fmt.Errorf("%w: cipher %s with a key of %d bits", ErrUnsupported, name, 8*keySize)
		}
		return s, nil
	}
	return suite{}, fmt.Errorf("%w: cipher %q", ErrUnsupported, name)
}

func openCipher(name string, key *secret.Bytes) (sectorCipher, error) {
	s, err := findSuite(name, key.Len())
	if err != nil {
		return nil, err
	}
	return s.open(key.Reveal())
}

// kernelKeySizes returns the key sizes in bytes that dm-crypt takes for one of
// kernelCiphers. XTS and LRW have a second key for the position.
func kernelKeySizes(name string) []int {
	switch {
	case strings.Contains(name, "-xts-"):
		return []int{32, 64}
	case strings.Contains(name, "-lrw-"):
		return []int{32, 40, 48}
	case strings.Contains(name, "adiantum"):
		return []int{32}
	}
	return []int{16, 24, 32}
}

func checkKernelCipher(name string) error {
	if !slices.Contains(kernelCiphers, name) {
		return fmt.Errorf("%w: cipher %q", ErrUnsupported, name)
	}
	return nil
}

// blockXTS is the XTS mode of x/crypto with the names that we use.
type blockXTS struct{ c *xts.Cipher }

func newXTS(block func([]byte) (cipher.Block, error)) func([]byte) (sectorCipher, error) {
	return func(key []byte) (sectorCipher, error) {
		c, err := xts.NewCipher(block, key)
		return blockXTS{c}, err
	}
}

func (x blockXTS) Encrypt(dst, src []byte, sector uint64) { x.c.Encrypt(dst, src, sector) }
func (x blockXTS) Decrypt(dst, src []byte, sector uint64) { x.c.Decrypt(dst, src, sector) }

// essiv is CBC whose IV is the sector number encrypted with the hashed key.
type essiv struct{ data, iv cipher.Block }

func newESSIV(key []byte) (sectorCipher, error) {
	data, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	salt := sha256.Sum256(key)
	defer clear(salt[:])
	iv, err := aes.NewCipher(salt[:])
	return essiv{data, iv}, err
}

func (e essiv) sectorIV(sector uint64) []byte {
	iv := make([]byte, aes.BlockSize)
	binary.LittleEndian.PutUint64(iv, sector)
	e.iv.Encrypt(iv, iv)
	return iv
}

func (e essiv) Encrypt(dst, src []byte, sector uint64) {
	cipher.NewCBCEncrypter(e.data, e.sectorIV(sector)).CryptBlocks(dst, src)
}

func (e essiv) Decrypt(dst, src []byte, sector uint64) {
	cipher.NewCBCDecrypter(e.data, e.sectorIV(sector)).CryptBlocks(dst, src)
}

// cryptArea runs f over the 512-byte sectors of a keyslot area, whose numbers
// count from the area's start.
func cryptArea(f func(dst, src []byte, sector uint64), b []byte) {
	for i := 0; i < len(b); i += sectorSize {
		f(b[i:i+sectorSize], b[i:i+sectorSize], uint64(i/sectorSize))
	}
}
