package luks2

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"sync"

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
	afFold(d.Reveal(), body, newHash)
	subtle.XORBytes(last, d.Reveal(), key.Reveal())
	return out
}

// afMerge undoes afSplit. The caller wipes the result.
func afMerge(stripes *secret.Bytes, n int, newHash func() hash.Hash) *secret.Bytes {
	all := stripes.Reveal()
	key := secret.New(n)
	afFold(key.Reveal(), all[:n*(afStripes-1)], newHash)
	subtle.XORBytes(key.Reveal(), key.Reveal(), all[n*(afStripes-1):n*afStripes])
	return key
}

// afFold mixes every stripe of body into d. The hash works on chunks of its own
// size that never meet, so each chunk is folded on a thread of its own.
func afFold(d, body []byte, newHash func() hash.Hash) {
	size := newHash().Size()
	var all sync.WaitGroup
	for j, pos := 0, 0; pos < len(d); j, pos = j+1, pos+size {
		fold := func() { foldChunk(d[pos:min(pos+size, len(d))], body[pos:], len(d), uint32(j), newHash()) }
		if pos+size < len(d) {
			all.Go(fold)
		} else {
			fold()
		}
	}
	all.Wait()
}

// foldChunk folds chunk number j, which stands at the start of body and again
// every stripe bytes.
func foldChunk(d, body []byte, stripe int, j uint32, h hash.Hash) {
	sum := secret.New(h.Size())
	defer sum.Wipe()
	number := binary.BigEndian.AppendUint32(nil, j)
	for i := 0; i < len(body); i += stripe {
		subtle.XORBytes(d, d, body[i:i+len(d)])
		h.Reset()
		h.Write(number)
		h.Write(d)
		copy(d, h.Sum(sum.Reveal()[:0]))
	}
}
