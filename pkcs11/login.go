package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// defaultTries is how many PINs are asked for, as in systemd. Most tokens lock after
// as many.
const defaultTries = 3

// A login gets a person logged in. PINs are tried as they come and are never kept:
// a wrong one, used again, can lock a token for good.
type login struct {
	card     *card
	ask      volume.Asker
	question volume.Question // Message has %s for what the token is called
	tries    int             // 0 for 3
	failed   func(error)     // is told of a wrong PIN before the next is asked for; may be nil
	touch    func(token string)
	asked    int
	tried    int
}

// question fills in what the caller left open.
func question(q volume.Question, credential string) volume.Question {
	return q.Or(volume.Question{Message: "Please enter PIN of security token %s:", Env: "PIN", Credential: credential})
}

// run logs in if the token wants that.
func (l *login) run(ctx context.Context) error {
	switch flags := l.card.token.flags; {
	case flags&tokenPINLocked != 0:
		return l.named(ErrLocked)
	case flags&tokenProtectedPath != 0:
		if l.touch != nil {
			l.touch(l.name())
		}
		return l.named(loggedIn(l.card.conn.login(ctx, l.card.session, nil)))
	case flags&tokenLoginRequired == 0:
		return nil
	}
	if l.tries == 0 {
		l.tries = defaultTries
	}
	for {
		a, err := l.more(ctx)
		if err != nil {
			return err
		}
		done, err := l.try(ctx, a)
		a.Wipe()
		if done || err != nil {
			return err
		}
	}
}

// try tries the PINs of one answer.
func (l *login) try(ctx context.Context, a volume.Answer) (done bool, err error) {
	for _, pin := range a.Secrets {
		err := loggedIn(l.pin(ctx, pin))
		if err == nil {
			return true, nil
		}
		err = l.named(err)
		l.tried++
		switch {
		case !errors.Is(err, ErrPIN):
			return true, err
		case a.From == volume.FromEnvironment:
			return true, fmt.Errorf("from $%s: %w", l.question.Env, err)
		case l.tried >= l.tries:
			return true, fmt.Errorf("%w: %w", volume.ErrTries, err)
		}
		if l.failed != nil {
			l.failed(err)
		}
		if err := l.refresh(ctx); err != nil {
			return true, err
		}
		if l.card.token.flags&tokenPINFinalTry != 0 {
			return false, nil // the last try is not for what else was in the answer
		}
	}
	return false, nil
}

// pin tries one PIN. An empty one, or one that could not have been typed at the
// token, is not worth a try.
func (l *login) pin(ctx context.Context, pin *secret.Bytes) error {
	const longest = 255
	if pin.Len() == 0 || pin.Len() > longest {
		return codePINLength
	}
	return l.card.conn.login(ctx, l.card.session, pin)
}

// loggedIn passes over that somebody is logged in already. What the token says of a
// PIN needs no more words.
func loggedIn(err error) error {
	var code Code
	switch {
	case errors.Is(err, codeLoggedIn):
		return nil
	case errors.As(err, &code):
		return code
	}
	return err
}

// refresh asks the token how many tries it has left.
func (l *login) refresh(ctx context.Context) error {
	t, err := l.card.conn.tokenInfo(ctx, l.card.slot)
	if err != nil {
		return err
	}
	l.card.token.flags = t.flags
	if t.flags&tokenPINLocked != 0 {
		return l.named(ErrLocked)
	}
	return nil
}

func (l *login) more(ctx context.Context) (volume.Answer, error) {
	if l.ask == nil {
		return volume.Answer{}, volume.ErrNoAnswer
	}
	a, err := l.ask.Ask(ctx, l.prompt())
	if err == nil && len(a.Secrets) == 0 {
		err = volume.ErrNoAnswer
	}
	l.asked++
	return a, err
}

// prompt is the question as the state of the token has it. The last try before the
// token locks is left to a person: a credential that is wrong at every boot would
// use it up.
func (l *login) prompt() volume.Question {
	q := l.question
	q.Attempt, q.Cache = l.asked, ""
	q.ID = "pkcs11:" + l.card.uri().String()
	name, note := l.name(), ""
	switch flags := l.card.token.flags; {
	case flags&tokenPINFinalTry != 0:
		q.Credential = ""
		note = " (the last try before it locks)"
	case flags&tokenPINCountLow != 0:
		note = " (a wrong PIN was entered before, few tries are left)"
	}
	q.Message = strings.Replace(q.Message, "%s", name+note, 1)
	return q
}

// name is what the token calls itself.
func (l *login) name() string {
	if label := l.card.token.label; label != "" {
		return printable(label)
	}
	return "without a name"
}

// named says which token an error is about.
func (l *login) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("security token %s: %w", l.name(), err)
}
