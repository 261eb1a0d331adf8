package tpm2

import (
	"context"
	"math"
	"time"
)

// Lockout is how a TPM's defence against guessing stands. Only objects with a PIN
// are subject to it.
type Lockout struct {
	Locked   bool          // PINs are not taken now
	Failed   int           // wrong attempts that are counted
	Most     int           // how many are allowed
	Interval time.Duration // after which one attempt is forgotten; 0 for never
	// Open tells that anybody can reset the count: nobody has set the password
	// that doing so takes.
	Open bool
}

// wait returns the time until the next attempt is allowed, at most.
func (l *Lockout) wait() time.Duration {
	n := time.Duration(max(l.Failed-l.Most+1, 1))
	if l.Interval > 0 && n > math.MaxInt64/l.Interval {
		return math.MaxInt64
	}
	return n * l.Interval
}

// Attributes of the property TPM_PT_PERMANENT (part 2 §8.6), and where it is.
const (
	propPermanent     = 0x200
	permOwnerAuth     = 1 << 0
	permLockoutAuth   = 1 << 2
	permInLockout     = 1 << 9
	propsOfPermanence = propLockoutInterval - propPermanent + 1
)

func (c *conn) lockout(ctx context.Context) (*Lockout, error) {
	props, err := c.properties(ctx, propPermanent, propsOfPermanence)
	if err != nil {
		return nil, err
	}
	return lockoutOf(props), nil
}

func lockoutOf(props map[uint32]uint32) *Lockout {
	return &Lockout{
		Locked: props[propPermanent]&permInLockout != 0, Open: props[propPermanent]&permLockoutAuth == 0,
		Failed: int(props[propLockoutCounter]), Most: int(props[propMaxAuthFail]),
		Interval: time.Duration(props[propLockoutInterval]) * time.Second,
	}
}
