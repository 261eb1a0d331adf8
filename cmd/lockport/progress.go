package main

import (
	"fmt"
	"time"
)

// progress is a line on standard error that says how far long work is, if a
// person is watching and it takes long.
type progress struct {
	a           *app
	what        string
	begun, last time.Time
	shown       bool
}

// patience is how long nothing is said, and between says how often.
const (
	patience = time.Second
	between  = 100 * time.Millisecond
)

func (a *app) progress(what string) *progress {
	return &progress{a: a, what: what, begun: a.now()}
}

// update says that so much of the work is done. It is called often.
func (p *progress) update(done, total int64) {
	now := p.a.now()
	if now.Sub(p.begun) < patience || now.Sub(p.last) < between || p.a.quiet || !isTerminal(p.a.err) {
		return
	}
	p.last, p.shown = now, true
	fmt.Fprintf(p.a.err, "\r%s: %3d %% of %s\x1b[K", p.what, percent(done, total), usageText(uint64(total)))
}

func percent(done, total int64) int64 {
	if total <= 0 {
		return 100
	}
	return min(100, int64(float64(done)/float64(total)*100))
}

// end takes the line away.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.a.err, "\r\x1b[K")
	}
}
