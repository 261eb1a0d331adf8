package zstd

import (
	"math/bits"
)

// A match is a place where bytes were before.
type match struct {
	length int
	value  uint32 // of the offset, as sequences have it
}

// finder finds matches. Positions with equal first bytes form a binary tree,
// sorted by all that follows them, whose root is the latest: the way from there
// to the place of a new position leads by the longest matches, latest first.
type finder struct {
	depth, nice int
	src         []byte     // the source, and behind it padding, so that all of it can be read by eights
	next        int        // position that comes into the trees next
	roots       []int32    // by hash; positions are one more here, 0 is none
	below       [][2]int32 // for each position: what sorts before it, and after it
	short       []int32    // by the hash of three bytes, the latest position
	shift       uint
}

const padding = "\x00\x00\x00\x00\x00\x00\x00\x00"

const (
	hashBytes = 4
	shortBits = 15
)

func (f *finder) reset(src []byte) {
	f.src, f.next = append(append(f.src[:0], src...), padding...), 0
	size := max(10, min(bits.Len(uint(len(src))), 17))
	f.shift = uint(32 - size)
	if len(f.below) < len(src) {
		f.below = make([][2]int32, len(src))
	}
	if cap(f.roots) < 1<<size {
		f.roots = make([]int32, 1<<size)
	}
	if f.short == nil {
		f.short = make([]int32, 1<<shortBits)
	}
	f.roots = f.roots[:1<<size]
	clear(f.roots)
	clear(f.short)
}

func (f *finder) hash(word uint32) uint32 { return word * 2654435761 >> f.shift }

func hashShort(word uint32) uint32 { return word << 8 * 2654435761 >> (32 - shortBits) }

// find appends matches of what is at a position, each longer than the one before
// and than best. No match goes past end.
func (f *finder) find(out []match, pos, end, best int) []match {
	f.catchUp(pos, end)
	if pos+hashBytes > end {
		return out
	}
	if best < 3 {
		h := hashShort(le.Uint32(f.src[pos:]))
		if at := int(f.short[h]) - 1; at >= 0 {
			if n := matchLen(f.src, at, pos, end); n >= 3 {
				out = append(out, match{n, uint32(pos-at) + 3})
				best = n
			}
		}
	}
	f.next++
	out, _ = f.insert(out, pos, end, max(best, 3))
	return out
}

// lead is how many positions before the end of a repetition are kept: with them
// begins what is found next.
const lead = 8

// catchUp puts the positions that nobody asked about into their trees. Most of
// what repeats something is left out: who looks for it finds that.
func (f *finder) catchUp(pos, end int) {
	for f.next < pos {
		_, longest := f.insert(nil, f.next, end, 0)
		f.next += max(1, longest-lead)
	}
	f.next = pos
}

// insert puts a position into its tree. It appends the matches it meets that are
// longer than best, unless that is 0, and returns how long the longest was that it
// has met, as far as that counts.
func (f *finder) insert(out []match, pos, end, best int) (all []match, longest int) {
	src, below := f.src, f.below
	size := len(src) - len(padding)
	if pos+hashBytes > size {
		return out, 0
	}
	word := le.Uint32(src[pos:])
	f.short[hashShort(word)] = int32(pos) + 1
	root := &f.roots[f.hash(word)]
	at := int(*root) - 1
	*root = int32(pos) + 1
	before, after := &below[pos][0], &below[pos][1]
	sharedBefore, sharedAfter := 0, 0
	// The order must not depend on the block's end: later blocks rely on it.
	limit := min(f.nice, size-pos)
	depth := f.depth
	if best == 0 {
		depth = (depth + 1) / 2 // nobody waits for what it meets
	}
	for range depth {
		if at < 0 {
			break
		}
		shared, isBefore := compare(src, at, pos, min(sharedBefore, sharedAfter), limit)
		longest = max(longest, shared)
		if best > 0 && shared > best && pos+best < end {
			best = f.extend(at, pos, shared, end)
			out = append(out, match{best, uint32(pos-at) + 3})
		}
		children := &below[at]
		if shared >= limit {
			// As good as equal: the new position takes its place.
			*before, *after = children[0], children[1]
			return out, longest
		}
		if isBefore {
			*before = int32(at) + 1
			before, sharedBefore = &children[1], shared
			at = int(children[1]) - 1
		} else {
			*after = int32(at) + 1
			after, sharedAfter = &children[0], shared
			at = int(children[0]) - 1
		}
	}
	*before, *after = 0, 0
	return out, longest
}

// compare counts the bytes that are equal at two positions, of which it is known
// that so many are, and tells which comes first; past limit it stops.
func compare(src []byte, at, pos, shared, limit int) (int, bool) {
	for shared < limit {
		x, y := le.Uint64(src[at+shared:]), le.Uint64(src[pos+shared:])
		if d := x ^ y; d != 0 {
			first := bits.TrailingZeros64(d) &^ 7
			return shared + first>>3, byte(x>>first) < byte(y>>first)
		}
		shared += 8
	}
	return shared, false
}

// extend is the length of a match of which so much is known. It ends at end.
func (f *finder) extend(at, pos, shared, end int) int {
	if shared >= f.nice {
		shared, _ = compare(f.src, at, pos, shared, end-pos)
	}
	return min(shared, end-pos)
}

// matchLen counts the bytes that are equal at two positions, the second of which
// is the later one, before end.
func matchLen(src []byte, at, pos, end int) int {
	n, _ := compare(src, at, pos, 0, end-pos)
	return min(n, end-pos)
}
