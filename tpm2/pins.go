package tpm2

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

const defaultTries = 5

// pins are the PINs for one token: asked for when needed, tried one by one, and
// the right one kept for the shards to come.
type pins struct {
	key   *Key
	t     *Token
	ask   volume.Asker
	keys  pinKeys         // of the PIN being tried
	left  []*secret.Bytes // given in one answer and not tried yet
	from  volume.Source
	asked int
	tried int

	defaults volume.Question // for what the caller's question leaves open
}

func (p *pins) wipe() {
	p.keys.wipe()
	secret.WipeAll(p.left)
}

// ready sees to it that there is a PIN to try, if the token wants one.
func (p *pins) ready(ctx context.Context) error {
	for p.t.PIN && p.keys.auth == nil {
		if len(p.left) == 0 {
			if err := p.more(ctx); err != nil {
				return err
			}
		}
		pin := p.left[0]
		p.left = p.left[1:]
		keys, err := p.t.pinKeys(ctx, pin)
		pin.Wipe()
		if errors.Is(err, ErrPIN) {
			err = p.wrong(err)
		}
		if err != nil {
			return err
		}
		p.keys = keys
	}
	return nil
}

// more asks.
func (p *pins) more(ctx context.Context) error {
	if p.ask == nil {
		return volume.ErrNoAnswer
	}
	a, err := p.ask.Ask(ctx, p.question())
	if err != nil {
		return err
	}
	p.asked++
	if len(a.Secrets) == 0 {
		return volume.ErrNoAnswer
	}
	p.left, p.from = a.Secrets, a.From
	return nil
}

func (p *pins) question() volume.Question {
	q := p.key.Question.Or(p.defaults)
	q.Attempt = p.asked
	if p.key.NoCache {
		q.Cache = ""
	}
	return q
}

// wrong drops the PIN that was tried and returns an error when it was the last.
func (p *pins) wrong(err error) error {
	p.keys.wipe()
	p.keys = pinKeys{}
	p.tried++
	tries := p.key.Tries
	if tries == 0 {
		tries = defaultTries
	}
	if p.tried >= tries {
		return fmt.Errorf("%w: %w", volume.ErrTries, err)
	}
	if len(p.left) == 0 && p.from == volume.FromEnvironment {
		return fmt.Errorf("from $%s: %w", p.question().Env, err)
	}
	if p.key.Failed != nil {
		p.key.Failed(err)
	}
	return nil
}
