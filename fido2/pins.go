package fido2

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// Bounds of guessing. A key of its own blocks after 8 wrong PINs in all, and then
// nothing but a reset helps, which takes the keyslots with it.
const (
	maxTries = 5
	// unattended is how many tries have to be left for a PIN that nobody typed now:
	// a wrong one that comes back at each boot must not block the key.
	unattended = 3
)

// pins are the PINs for one device: asked for when needed, tried one by one, and
// the right one kept for the next operation.
type pins struct {
	ask      volume.Asker
	question volume.Question
	failed   func(error)
	good     *secret.Bytes   // the right one
	left     []*secret.Bytes // given in one answer and not tried yet
	from     volume.Source
	asked    int
	tried    int
	noCache  bool
}

func (p *pins) wipe() {
	p.good.Wipe()
	p.good = nil
	secret.WipeAll(p.left)
	p.left = nil
}

// prove gets a proof for a permission, with PINs until one is right. The caller
// wipes it, and the agreement, which is another one after a wrong PIN.
func (p *pins) prove(ctx context.Context, d *Device, permission int, rp string) (*agreement, *proof, error) {
	for {
		pin, err := p.next(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		a, err := d.agree(ctx)
		if err == nil {
			var got *proof
			if got, err = d.provePIN(ctx, a, pin, permission, rp); err == nil {
				p.right(pin)
				return a, got, nil
			}
			a.wipe()
		}
		p.drop(pin)
		if err = p.wrong(err); err != nil {
			return nil, nil, err
		}
	}
}

// next returns a PIN to try: the right one, or the next.
func (p *pins) next(ctx context.Context, d *Device) (*secret.Bytes, error) {
	if p.good != nil {
		return p.good, nil
	}
	for {
		if len(p.left) == 0 {
			if err := p.more(ctx, d); err != nil {
				return nil, err
			}
		}
		// Of several in one answer each could be the one that blocks the key.
		if err := p.spare(ctx, d); err != nil {
			return nil, err
		}
		if len(p.left) > 0 {
			pin := p.left[0]
			p.left = p.left[1:]
			return pin, nil
		}
	}
}

// more asks.
func (p *pins) more(ctx context.Context, d *Device) error {
	if p.ask == nil {
		return volume.ErrNoAnswer
	}
	q := p.question
	q.Attempt = p.asked
	if p.noCache {
		q.Cache = ""
	}
	a, err := p.ask.Ask(ctx, q)
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

// spare drops PINs that nobody typed when they could block the device.
func (p *pins) spare(ctx context.Context, d *Device) error {
	if p.from != volume.FromCredential && p.from != volume.FromCache {
		return nil
	}
	left, _, err := d.PINRetries(ctx)
	if err != nil || left >= unattended {
		return err
	}
	secret.WipeAll(p.left)
	p.left = nil
	p.tell(fmt.Errorf("%w: only %d are left, so somebody has to type it", &WrongPIN{left}, left))
	return nil
}

func (p *pins) tell(err error) {
	if p.failed != nil {
		p.failed(err)
	}
}

// right keeps the PIN that was right, and none of the others.
func (p *pins) right(pin *secret.Bytes) {
	p.good = pin
	secret.WipeAll(p.left)
	p.left = nil
}

func (p *pins) drop(pin *secret.Bytes) {
	if pin == p.good {
		p.good = nil
	}
	pin.Wipe()
}

// wrong returns an error when no other PIN is to be tried.
func (p *pins) wrong(err error) error {
	if !errors.Is(err, StatusPINInvalid) && !errors.Is(err, ErrPIN) {
		return err
	}
	var w *WrongPIN
	if errors.As(err, &w) && w.Left == 0 {
		return StatusPINBlocked
	}
	p.tried++
	switch {
	case p.tried >= maxTries:
		return fmt.Errorf("%w: %w", volume.ErrTries, err)
	case len(p.left) == 0 && p.from == volume.FromEnvironment:
		return fmt.Errorf("from $%s: %w", p.question.Env, err)
	}
	p.tell(err)
	return nil
}
