package luks2

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	"github.com/lockport/lockport/secret"
)

// materialSize returns the bytes that a keyslot area needs for a key of n
// bytes: all stripes, rounded up to whole blocks.
func materialSize(n int) int64 {
	return (int64(n)*afStripes + areaAlign - 1) / areaAlign * areaAlign
}

// afSplit spreads key over afStripes blocks of its own size, so that losing
// any of them loses the key. The result is a secret that the caller wipes.
//
// Format: specification §2.4, the splitter of LUKS1 with 4000 stripes.
func afSplit(key *secret.Bytes, newHash func() hash.Hash) *secret.Bytes {
	n := key.Len()
	out := secret.New(n * afStripes)
	stripes := out.Reveal()
	body, last := stripes[:n*(afStripes-1)], stripes[n*(afStripes-1):]
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(body)
	d := secret.New(n)
	defer d.Wipe()
	afFold(d.Reveal(), body, newHash())
	subtle.XORBytes(last, d.Reveal(), key.Reveal())
	return out
}

// afMerge undoes afSplit. The caller wipes the result.
func afMerge(stripes *secret.Bytes, n int, newHash func() hash.Hash) *secret.Bytes {
	all := stripes.Reveal()
	key := secret.New(n)
	afFold(key.Reveal(), all[:n*(afStripes-1)], newHash())
	subtle.XORBytes(key.Reveal(), key.Reveal(), all[n*(afStripes-1):n*afStripes])
	return key
}

// afFold mixes every stripe of body into d.
func afFold(d, body []byte, h hash.Hash) {
	sum := secret.New(h.Size())
	defer sum.Wipe()
	for i := 0; i < len(body); i += len(d) {
		subtle.XORBytes(d, d, body[i:i+len(d)])
		diffuse(d, h, sum.Reveal()[:0])
	}
}

// diffuse hashes d in chunks of the hash's size, each with its number before it.
func diffuse(d []byte, h hash.Hash, sum []byte) {
	for j, pos := 0, 0; pos < len(d); j, pos = j+1, pos+h.Size() {
		chunk := d[pos:min(pos+h.Size(), len(d))]
		h.Reset()
		var number [4]byte
		binary.BigEndian.PutUint32(number[:], uint32(j))
		h.Write(number[:])
		h.Write(chunk)
		copy(chunk, h.Sum(sum))
	}
}
