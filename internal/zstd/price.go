package zstd

import "math/bits"

// Prices are in 256ths of a bit.
const bit = 256

// maxNice bounds the length of a match whose shorter forms are weighed, too.
const maxNice = 256

// prices estimates what symbols cost, from how often they came so far.
type prices struct {
	literalCount                               [256]uint32
	lengthCount                                [36]uint32 // of runs of literals
	matchCount                                 [53]uint32
	offsetCount                                [32]uint32
	literalSum, lengthSum, matchSum, offsetSum uint32

	literal [256]int32
	length  [64]int32          // of a run of so many literals
	match   [maxNice + 1]int32 // of a match's length
	offset  [32]int32          // of an offset's symbol, with its extra bits
	lengths [36]int32          // of the symbols of longer runs
}

// first guesses from a block what it will be made of.
func (p *prices) first(src []byte) {
	*p = prices{}
	for _, c := range src {
		p.literalCount[c]++
	}
	// Most bytes will be in matches: what is counted later has more weight.
	shift := max(bits.Len(uint(len(src)))-11, 0)
	for i, n := range p.literalCount {
		if n > 0 {
			p.literalCount[i] = n>>shift + 1
		}
		p.literalSum += p.literalCount[i]
	}
	for i := range p.lengthCount {
		p.lengthCount[i] = uint32(1 + 3/(i+1))
		p.lengthSum += p.lengthCount[i]
	}
	for i := range p.matchCount {
		p.matchCount[i] = 1
		p.matchSum++
	}
	for i := range p.offsetCount {
		switch {
		case i == 0:
			p.offsetCount[i] = 6
		case i > 4 && i < 17:
			p.offsetCount[i] = 3
		default:
			p.offsetCount[i] = 1
		}
		p.offsetSum += p.offsetCount[i]
	}
	p.update()
}

// count takes account of a sequence.
func (p *prices) count(literals []byte, s sequence) {
	for _, c := range literals {
		p.literalCount[c] += 2
	}
	p.literalSum += 2 * uint32(len(literals))
	p.lengthCount[literalCode(s.literals)]++
	p.lengthSum++
	p.matchCount[matchCode(s.length)]++
	p.matchSum++
	p.offsetCount[offsetCode(s.value)]++
	p.offsetSum++
}

// update computes the prices anew.
func (p *prices) update() {
	sum := logarithm(p.literalSum)
	for i, n := range p.literalCount {
		p.literal[i] = min(sum-logarithm(max(n, 1)), 11*bit)
	}
	sum = logarithm(p.lengthSum)
	for i, n := range p.lengthCount {
		p.lengths[i] = sum - logarithm(n) + bit*int32(literalCoding.extra[i])
	}
	for i := range p.length {
		p.length[i] = p.lengths[literalCode(i)]
	}
	sum = logarithm(p.matchSum)
	for i := minMatch; i < len(p.match); i++ {
		code := matchCode(i)
		p.match[i] = sum - logarithm(p.matchCount[code]) + bit*int32(matchCoding.extra[code])
	}
	sum = logarithm(p.offsetSum)
	for i, n := range p.offsetCount {
		p.offset[i] = sum - logarithm(n) + bit*int32(i)
	}
}

// run is the price of the number of literals before a match.
func (p *prices) run(n int32) int32 {
	if int(n) < len(p.length) {
		return p.length[n]
	}
	return p.lengths[literalCode(int(n))]
}

// logarithm is the binary logarithm in 256ths, straight between powers of two.
func logarithm(n uint32) int32 {
	high := bits.Len32(n) - 1
	return int32(high)*bit + int32(uint64(n)<<8>>high) - bit
}
