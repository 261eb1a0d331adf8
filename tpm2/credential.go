package tpm2

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockport/lockport/luks2"
)

// nullKeyID begins a credential that is encrypted with no key at all: it is
// neither secret nor authentic. Format: systemd, src/shared/creds-util.c.
const nullKeyID = "\x05\x84\x69\xda\xf6\xf5\x43\x24\x80\x05\x49\xda\x0f\x8e\xa2\xfb"

// Sizes in that format, in bytes.
const (
	credentialHead = 16 + 4*4  // before the initialisation vector
	metadataHead   = 8 + 8 + 4 // before the name
	maxNonce       = 1024
)

// openCredential returns the content of a credential with the null key. Nothing
// follows from that it can be read: whoever can write the file can make one.
func openCredential(b []byte) ([]byte, error) {
	if !bytes.HasPrefix(b, []byte(nullKeyID)) {
		return nil, errors.New("neither JSON nor a credential with the null key")
	}
	if len(b) < credentialHead {
		return nil, errors.New("credential is cut off")
	}
	field := func(n int) uint64 { return uint64(binary.LittleEndian.Uint32(b[16+4*n:])) }
	key, block, nonce, tag := field(0), field(1), field(2), field(3)
	if key != 32 || block != 1 || nonce == 0 || nonce > maxNonce || tag != 16 {
		return nil, fmt.Errorf("%w: credential with sizes of %d, %d, %d, %d bytes", luks2.ErrUnsupported, key, block, nonce, tag)
	}
	end := align8(credentialHead + int(nonce))
	if len(b) < end {
		return nil, errors.New("credential is cut off")
	}
	sum := sha256.Sum256(nil)
	c, err := aes.NewCipher(sum[:])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithNonceSize(c, int(nonce))
	if err != nil {
		return nil, err
	}
	text, err := gcm.Open(nil, b[credentialHead:credentialHead+int(nonce)], b[end:], b[:end])
	if err != nil {
		return nil, errors.New("credential is damaged")
	}
	return withoutMetadata(text)
}

// withoutMetadata cuts off the times of a credential and its name, which is not
// that of the file here.
func withoutMetadata(text []byte) ([]byte, error) {
	if len(text) < metadataHead {
		return nil, errors.New("credential without metadata")
	}
	name := binary.LittleEndian.Uint32(text[metadataHead-4:])
	if uint64(name) > uint64(len(text)) || align8(metadataHead+int(name)) > len(text) {
		return nil, errors.New("credential with a name that is cut off")
	}
	return text[align8(metadataHead+int(name)):], nil
}

func align8(n int) int { return (n + 7) &^ 7 }

// PCRLockCredentials returns where the boot loader may have left pcrlock policies:
// in an initrd, whose own files are older than they. root is as for [Open].
func PCRLockCredentials(root string) []string {
	dir := filepath.Join(root, "run/credentials/@encrypted")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if strings.HasPrefix(strings.ToLower(e.Name()), "pcrlock.") {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

// readPCRLock reads a pcrlock policy from a file of its own or from a credential,
// which may be in base64.
func readPCRLock(name string) (*pcrLock, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		if raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), "")); err == nil {
			text = raw
		}
		if text, err = openCredential(text); err != nil {
			return nil, err
		}
	}
	return parsePCRLock(text)
}
