package tpm2

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/lockport/lockport/tpm2/eventlog"
)

// literal compares the PCRs that are bound by value. A token holds only a digest
// over all of them: which one differs is known if the token has a record of what
// they held that comes to that digest, or if a guess from the log does.
func (x *explainer) literal(ctx context.Context) error {
	if len(x.t.PCRs) == 0 {
		return nil
	}
	now, err := x.values(ctx, x.bank, x.t.PCRs)
	if err != nil {
		return err
	}
	enrolled := x.enrolled(now)
	for _, n := range x.t.PCRs {
		x.r.PCRs = append(x.r.PCRs, x.pcr(n, now[n], enrolled[n]))
	}
	if len(now) < len(x.t.PCRs) || x.t.PCRLock && x.nvName() == nil {
		return nil // what is missing is told already
	}
	if !x.comesTo(now) {
		x.r.stale = true
		x.r.block(fmt.Errorf("%w: %s", ErrPolicy, pcrText(x.different())))
	}
	return nil
}

// different lists the PCRs that differ, or all if it is not known which.
func (x *explainer) different() []int {
	var list []int
	for _, p := range x.r.PCRs {
		if p.Match == Differs {
			list = append(list, p.Index)
		}
	}
	if list == nil {
		return x.t.PCRs
	}
	return list
}

// comesTo tells whether values of the bound PCRs come to the token's policies.
func (x *explainer) comesTo(values map[int][]byte) bool {
	nv := x.nvName()
	if x.t.PCRLock && nv == nil {
		return false
	}
	signers := x.signer
	if signers == nil {
		signers = [][]byte{nil}
	}
	return slices.ContainsFunc(signers, func(signer []byte) bool {
		for i, p := range x.t.shardPolicies() {
			d := p.digest(signer, refDigest(x.t.PolicyRef), nv, x.bank.alg, values)
			if !bytes.Equal(d[:], x.t.Policies[i]) {
				return false
			}
		}
		return true
	})
}

// nvName returns the name of the pcrlock policy's NV index, from the token or
// from the policy's file; nil if neither tells.
func (x *explainer) nvName() []byte {
	if h, err := parseHandleRecord(x.t.PCRLockNV, resourceNV); err == nil {
		return h.name
	}
	if x.lock != nil {
		return x.lock.nv.name
	}
	return nil
}

// enrolled returns what the PCRs held at enrolment, nil if nothing tells.
func (x *explainer) enrolled(now map[int][]byte) map[int][]byte {
	if len(now) == len(x.t.PCRs) && x.comesTo(now) {
		return now
	}
	if values := x.recorded(); values != nil && x.comesTo(values) {
		return values
	}
	return x.guess(now)
}

// recorded returns the values of the token's record, nil if there is not one for
// each PCR. Their lengths matter: a policy is over all of them joined.
func (x *explainer) recorded() map[int][]byte {
	if x.t.Record == nil {
		return nil
	}
	values := map[int][]byte{}
	for _, n := range x.t.PCRs {
		v := x.t.Record.PCRs[n].Value
		if len(v) != x.bank.size {
			return nil
		}
		values[n] = v
	}
	return values
}

// maxGuesses bounds how many combinations are tried; each takes microseconds.
const maxGuesses = 50000

// guess looks for values that the PCRs have had since the machine started, one
// PCR or two of them other than now.
func (x *explainer) guess(now map[int][]byte) map[int][]byte {
	left := maxGuesses
	candidates := map[int][][]byte{}
	for _, n := range x.t.PCRs {
		candidates[n] = append(x.earlier(n), make([]byte, x.bank.size))
	}
	for i, a := range x.t.PCRs {
		for _, va := range candidates[a] {
			one := with(now, a, va)
			if x.comesTo(one) {
				return one
			}
			for _, b := range x.t.PCRs[i+1:] {
				for _, vb := range candidates[b] {
					if left--; left == 0 {
						return nil
					}
					if two := with(one, b, vb); x.comesTo(two) {
						return two
					}
				}
			}
		}
	}
	return nil
}

func with(values map[int][]byte, n int, v []byte) map[int][]byte {
	m := map[int][]byte{n: v}
	for k, old := range values {
		if k != n {
			m[k] = old
		}
	}
	return m
}

// maxEarlier bounds how many values of a PCR are tried, the latest first.
const maxEarlier = 64

// earlier returns the values that a PCR had on its way, after the log.
func (x *explainer) earlier(pcr int) [][]byte {
	if x.o.Log == nil {
		return nil
	}
	events := x.o.Log.Of(pcr)
	// One of them says what PCR 0 began with.
	remarks := slices.DeleteFunc(slices.Clone(x.o.Log.Events), func(e eventlog.Event) bool { return e.System || e.Type != eventlog.NoAction })
	var list [][]byte
	for n := len(events); n > 0 && len(list) < maxEarlier; n-- {
		if v, ok := (&eventlog.Log{Events: slices.Concat(remarks, events[:n])}).Replay(x.bank.name)[pcr]; ok {
			list = append(list, v)
		}
	}
	return list
}

// pcr reports one PCR.
func (x *explainer) pcr(n int, now, enrolled []byte) PCRReport {
	p := PCRReport{Index: n, Bank: x.bank.name, Enrolled: enrolled, Now: now}
	switch {
	case now == nil:
	case enrolled != nil && bytes.Equal(now, enrolled):
		p.Match = Same
	case enrolled != nil || len(x.t.PCRs) == 1 && !(x.t.PCRLock && x.nvName() == nil):
		p.Match = Differs
		p.Changes = x.changes(n, now, enrolled)
	}
	return p
}

// changes tells in words what was measured to a PCR other than at enrolment.
func (x *explainer) changes(n int, now, enrolled []byte) []string {
	if x.o.Log == nil {
		return nil
	}
	if valueOf(x.o.Values, x.bank, n) != nil {
		return nil // the log is not that of those values
	}
	var words []string
	events := x.o.Log.Of(n)
	if came := x.o.Log.Replay(x.bank.name)[n]; came != nil && !bytes.Equal(came, now) {
		words = append(words, "something that is not in the event log was measured after it")
	} else if came == nil {
		words = append(words, "the event log has nothing about it")
	}
	if enrolled == nil {
		return words
	}
	// What the log proves comes before what the record says.
	for at, v := range x.earlier(n) {
		if !bytes.Equal(v, enrolled) {
			continue
		}
		cut := len(events) - at
		for i, e := range events[cut:] {
			words = append(words, fmt.Sprintf("event %d is new: %s", cut+i+1, e))
		}
		return words
	}
	if x.t.Record != nil {
		if old := x.t.Record.PCRs[n]; old.Events != nil && bytes.Equal(old.Value, enrolled) {
			return append(words, compareEvents(old.Events, events, x.bank.name)...)
		}
	}
	return words
}

// compareEvents tells how the events of now differ from those of enrolment. The
// marks of a longest common subsequence are taken for the same events.
func compareEvents(old []Mark, events []eventlog.Event, bank string) []string {
	now := marksOf(events, bank)
	if now == nil && len(events) > 0 || len(now) > maxMarks {
		return []string{"its events can't be compared with those of enrolment"}
	}
	var words []string
	i, j := 0, 0
	for _, pair := range append(common(old, now), [2]int{len(old), len(now)}) {
		gone, fresh := old[i:pair[0]], events[j:pair[1]]
		for k, e := range fresh {
			what := "is new"
			if k < len(gone) {
				what = "differs"
			}
			words = append(words, fmt.Sprintf("event %d %s: %s", j+k+1, what, e))
		}
		for k := len(fresh); k < len(gone); k++ {
			words = append(words, fmt.Sprintf("event %d of enrolment is missing: %s", i+k+1, gone[k].Type))
		}
		i, j = pair[0]+1, pair[1]+1
	}
	return words
}

// common returns the positions of a longest common subsequence.
func common(a, b []Mark) [][2]int {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var pairs [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}
