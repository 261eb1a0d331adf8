package eventlog

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// bank is one hash algorithm in which PCRs are kept.
type bank struct {
	name string
	alg  uint16 // TPM_ALG_ID
	size int    // of a digest, in bytes
	hash func() hash.Hash
}

// banks are those that events can have digests in here.
func banks() []bank {
	return []bank{
		{"sha1", 0x0004, sha1.Size, sha1.New},
		{"sha256", 0x000b, sha256.Size, sha256.New},
		{"sha384", 0x000c, sha512.Size384, sha512.New384},
		{"sha512", 0x000d, sha512.Size, sha512.New},
	}
}

func bankByAlg(alg uint16) (bank, bool) {
	for _, b := range banks() {
		if b.alg == alg {
			return b, true
		}
	}
	return bank{}, false
}

func bankByName(name string) (bank, bool) {
	for _, b := range banks() {
		if b.name == name {
			return b, true
		}
	}
	return bank{}, false
}
