package fido2

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// pollTime is how often new keys are looked for.
const pollTime = 100 * time.Millisecond

// target is a token and the keyslot that it opens.
type target struct {
	*Token
	keyslot int
}

// search looks for a key that opens one of the targets, and waits for one.
type search struct {
	k       *Key
	ask     volume.Asker
	targets []target
	use     func(ctx context.Context, t target, pass *secret.Bytes) error // the passphrase stays the search's

	tried map[string]bool // keys, by their ID
	alone bool            // there is only one key
	last  []error         // what is wrong with those that are there
}

// candidate is a token that one of the keys may have been enrolled for.
type candidate struct {
	*session
	target
	rank rank
}

// rank is how likely a candidate is.
type rank int

const (
	certain  rank = iota // the key says that it has the credential
	likely               // the key can do what the token asks for, and would not tell
	unlikely             // the token was made with another kind of key, or much has changed
	ranks
)

// session is one key in use.
type session struct {
	found Found
	conn  Conn
	dev   *Device
	pins  *pins
}

// A final error is of a person's, or comes after one: other keys are not tried any
// more, and none is waited for.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// run returns nil once a target was used.
func (s *search) run(ctx context.Context) error {
	s.tried = map[string]bool{}
	limited := ctx
	if s.k.Wait > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, s.k.Wait)
		defer cancel()
	}
	for told := ""; ; {
		done, err := s.round(ctx)
		if done {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if s.k.Wait == 0 || errors.As(err, new(final)) {
			return err
		}
		if s.k.Waiting != nil && err.Error() != told {
			s.k.Waiting(err)
		}
		told = err.Error()
		if !s.await(limited) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// await waits for a key that was not tried yet.
func (s *search) await(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pollTime):
		}
		if list, err := s.k.keys(); err == nil && len(s.fresh(list)) > 0 {
			return true
		}
	}
}

// keys lists those that may be used.
func (k *Key) keys() ([]Found, error) {
	list, err := k.Port.List()
	if k.Device == "" || k.Device == Auto {
		return sorted(list), err
	}
	name := k.Device
	if to, err := filepath.EvalSymlinks(name); err == nil {
		name = to // a link of udev's stays when the key is replugged
	}
	for _, f := range list {
		if f.Path == k.Device || f.Path == name {
			return []Found{f}, err
		}
	}
	// Another name of it, or nothing that is a key: opening it tells.
	return []Found{{Path: k.Device, ID: k.Device}}, err
}

func (s *search) fresh(list []Found) []Found {
	var fresh []Found
	for _, f := range list {
		if !s.tried[f.ID] {
			fresh = append(fresh, f)
		}
	}
	return fresh
}

// round tries the keys that are new. done says that a target was used.
func (s *search) round(ctx context.Context) (done bool, err error) {
	list, err := s.k.keys()
	if err != nil {
		return false, err
	}
	if len(list) == 0 {
		return false, ErrNoDevice
	}
	s.alone = len(list) == 1
	var sessions []*session
	defer func() {
		for _, x := range sessions {
			x.close()
		}
	}()
	var candidates []candidate
	var reasons []error
	for _, f := range s.fresh(list) {
		x, list, err := s.look(ctx, f)
		if x != nil {
			sessions = append(sessions, x)
		}
		candidates = append(candidates, list...)
		switch {
		case errors.Is(err, ErrNoDevice):
			reasons = append(reasons, err)
		case err != nil:
			reasons = append(reasons, onKey(f, err))
		}
	}
	done, more := s.try(ctx, candidates)
	if done {
		return true, nil
	}
	if reasons = append(reasons, more...); len(reasons) > 0 {
		s.last = reasons
	}
	return false, volume.Join(s.last...)
}

// look opens a key and asks it silently for the credentials of all tokens. A key
// that is gone again, or has not come all the way, is looked at again.
func (s *search) look(ctx context.Context, f Found) (*session, []candidate, error) {
	conn, err := s.k.Port.Open(ctx, f.Path)
	switch {
	case errors.Is(err, ErrGone):
		return nil, nil, ErrNoDevice
	case errors.Is(err, fs.ErrPermission), errors.Is(err, ErrBusy): // udev, or whoever uses it, may be about to give it
		return nil, nil, err
	}
	s.tried[f.ID] = true
	if err != nil {
		return nil, nil, err
	}
	x := &session{found: f, conn: conn, pins: s.k.pins(s.ask)}
	if x.dev, err = Connect(ctx, conn); err != nil {
		return x, nil, err
	}
	x.dev.Touch = func() { s.k.touch(f) }
	if !x.dev.Info.HMACSecret() {
		return x, nil, ErrNoHMACSecret
	}
	list, err := s.candidates(ctx, x)
	if err == nil && len(list) == 0 {
		err = ErrOtherKey
	}
	return x, list, err
}

func (k *Key) pins(ask volume.Asker) *pins {
	return &pins{ask: ask, question: k.question(), failed: k.Failed, noCache: k.NoCache}
}

func (k *Key) touch(f Found) {
	if k.Touch != nil {
		k.Touch(f.String())
	}
}

// candidates asks which tokens may be for this key. A credential that is protected
// does not show before the user is verified.
func (s *search) candidates(ctx context.Context, x *session) ([]candidate, error) {
	var list []candidate
	var reasons []error
	for _, t := range s.targets {
		if on(t.UV) {
			c := candidate{x, t, unlikely}
			if x.dev.Info.Verifies() {
				c.rank = likely
			}
			list = append(list, c)
			continue
		}
		if s.alone && t.silent() { // asking for the secret bothers nobody either
			list = append(list, candidate{x, t, likely})
			continue
		}
		yes, maybe, err := x.dev.has(ctx, t.RP, t.Credential)
		switch {
		case err != nil && (ctx.Err() != nil || errors.Is(err, ErrGone) || errors.Is(err, ErrSilent)):
			return list, err
		case err != nil: // what is wrong with one token keeps no other from being tried
			reasons = append(reasons, err)
		case yes:
			list = append(list, candidate{x, t, certain})
		case maybe:
			list = append(list, candidate{x, t, likely})
		}
	}
	return list, volume.Join(reasons...)
}

// try uses the candidates, the most likely first.
func (s *search) try(ctx context.Context, list []candidate) (done bool, reasons []error) {
	for r := range ranks {
		for _, c := range list {
			if c.rank != r {
				continue
			}
			err := s.open(ctx, c)
			if err == nil {
				return true, nil
			}
			if errors.Is(err, StatusNoCredentials) {
				err = ErrOtherKey
			}
			reasons = append(reasons, onKey(c.found, err))
			if errors.As(err, new(final)) || ctx.Err() != nil {
				return false, reasons
			}
		}
	}
	return false, reasons
}

// open uses one.
func (s *search) open(ctx context.Context, c candidate) error {
	got, err := c.dev.reveal(ctx, c.Token, c.pins, s.k.Headless)
	if err != nil {
		return settle(err)
	}
	defer got.Wipe()
	pass := passphrase(got)
	defer pass.Wipe()
	return s.use(ctx, c.target, pass)
}

// settle marks the errors after which nobody is to be bothered again.
func settle(err error) error {
	for _, last := range []error{volume.ErrNoAnswer, volume.ErrTries, StatusPINInvalid, ErrPIN, StatusUserActionTimeout,
		StatusActionTimeout, StatusOperationDenied, StatusKeepaliveCancel, ErrNoPerson} {
		if errors.Is(err, last) {
			return final{err}
		}
	}
	return err
}

// close may be called on nil.
func (x *session) close() {
	if x == nil {
		return
	}
	x.pins.wipe()
	// What was asked of it is answered or failed; closing changes neither.
	_ = closeConn(x.conn)
}
