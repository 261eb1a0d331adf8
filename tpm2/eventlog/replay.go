package eventlog

import (
	"bytes"
	"slices"
)

// Replay computes what each PCR holds in a bank after the events. PCRs without
// an event that has a digest in the bank are left out, and so are 17 to 22: they
// belong to late launch, which starts them anew. Into PCR 10 the kernel measures
// files by a log of its own, which is not read here.
func (l *Log) Replay(bank string) map[int][]byte {
	values := map[int][]byte{}
	b, ok := bankByName(bank)
	if !ok {
		return values
	}
	for _, e := range l.Events {
		d := e.Digests[bank]
		if d == nil || !e.extends() || e.PCR >= 17 && e.PCR <= 22 {
			continue
		}
		old, ok := values[e.PCR]
		if !ok {
			old = l.start(e.PCR, b.size)
		}
		h := b.hash()
		h.Write(old)
		h.Write(d)
		values[e.PCR] = h.Sum(nil)
	}
	return values
}

// start is what a PCR holds before its first event: zeros, but for PCR 0 the
// locality in which the TPM was started.
func (l *Log) start(pcr, size int) []byte {
	v := make([]byte, size)
	if pcr != 0 {
		return v
	}
	if i := slices.IndexFunc(l.Events, Event.isLocality); i >= 0 {
		v[size-1] = l.Events[i].locality()
	}
	return v
}

func (e Event) isLocality() bool {
	return e.Type == NoAction && !e.System && e.PCR == 0 &&
		len(e.Data) == len(startupLocality)+1 && bytes.HasPrefix(e.Data, []byte(startupLocality))
}

func (e Event) locality() byte { return e.Data[len(startupLocality)] }
