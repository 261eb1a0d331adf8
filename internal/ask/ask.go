// Package ask gets passphrases and PINs from wherever they are kept or typed:
// the environment, system credentials, the kernel's keyring, the terminal and,
// where there is none, the password agents of systemd.
//
// It says when there is nobody to ask and never decides whether an answer is
// right. Everything that it touches comes in through [Config], so that the
// program alone knows the environment.
package ask

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// rounds is how often a new secret is asked for until both answers agree.
const rounds = 4

// cacheFor is how long a typed answer stays in the kernel's keyring.
const cacheFor = 150 * time.Second

// Config has the sources of answers. The zero value has none.
type Config struct {
	// TakeEnv returns a variable of the environment and removes it, so that no
	// child process inherits it; see [TakeEnv]. The asker takes over the
	// secret. Nil for no environment.
	TakeEnv func(name string) (*secret.Bytes, bool)

	// Credentials is the directory of the service's credentials, "" for none.
	Credentials string

	// Cache shares typed answers between volumes.
	Cache Cache

	// Terminal opens the terminal to prompt on, for reading and writing; see
	// [OpenTerminal]. The asker closes it. Nil, or an error, for no terminal.
	Terminal func() (*os.File, error)

	// Agents is the directory where password agents look for questions, as a
	// rule /run/systemd/ask-password. It is made when it is missing and its
	// parent is not. "" for no agents.
	Agents string

	// Waiting is told when a question has gone to the agents, so that whoever
	// looks at a program that seems to hang learns what it waits for. May be nil.
	Waiting func(question string)

	// Headless switches off all that needs a person.
	Headless bool

	// Suspend is called when the person suspends the program at a prompt, and
	// returns when it goes on. Nil stops the process group as the terminal
	// would.
	Suspend func()
}

// Cache holds answers by the name of a kernel key; several are joined by NUL
// bytes. Either function may be nil; without Put answers are used and not left
// behind. An error means that there is no such key.
type Cache struct {
	Get func(name string) (*secret.Bytes, error)                              // the asker wipes the result
	Put func(name string, payload *secret.Bytes, timeout time.Duration) error // replaces; the asker wipes the payload
	For time.Duration                                                         // 0 is 150 seconds
}

// Asker asks. The zero value has no sources at all. It is not safe for
// concurrent use, but prompts of several askers or processes on one terminal
// wait for one another.
type Asker struct{ config Config }

var _ volume.Asker = (*Asker)(nil)

// New returns an asker with the sources of c.
func New(c Config) *Asker { return &Asker{config: c} }

// Ask tries the sources in this order: environment, credential, cache, terminal,
// agents. The first three answer only attempt 0, and the agents are asked only
// when there is no terminal. A question with a Confirm message is not answered
// from the cache, and a person has to answer it twice alike.
//
// The error wraps [volume.ErrNoAnswer] when there is nobody to ask, when the
// person gave up or when the question's time ran out; it is the context's when
// that ended, and wraps [context.Canceled] when the person interrupted the
// prompt. A credential that exists and is of no use is an error as well. The
// caller wipes the answer.
func (a *Asker) Ask(ctx context.Context, q volume.Question) (volume.Answer, error) {
	if err := ctx.Err(); err != nil {
		return volume.Answer{}, err
	}
	if q.Attempt == 0 {
		answer, err := a.askMachine(q)
		if err != nil || answer.Secrets != nil {
			return answer, err
		}
	}
	if a.config.Headless {
		return volume.Answer{}, fmt.Errorf("prompts are switched off: %w", volume.ErrNoAnswer)
	}
	c, err := a.channel(ctx, q)
	if err != nil {
		return volume.Answer{}, err
	}
	defer c.close()
	// Waiting for another prompt to end may have brought the answer.
	if answer, found := a.cached(q); found {
		return answer, nil
	}
	return a.askPerson(ctx, q, c)
}

// askMachine returns no secrets when no source has an answer.
func (a *Asker) askMachine(q volume.Question) (volume.Answer, error) {
	if q.Env != "" && a.config.TakeEnv != nil {
		if s, found := a.config.TakeEnv(q.Env); found {
			return volume.Answer{Secrets: []*secret.Bytes{s}, From: volume.FromEnvironment}, nil
		}
	}
	if q.Credential != "" && a.config.Credentials != "" {
		secrets, err := readCredential(a.config.Credentials, q.Credential)
		if err != nil || secrets != nil {
			return volume.Answer{Secrets: secrets, From: volume.FromCredential}, err
		}
	}
	answer, _ := a.cached(q)
	return answer, nil
}

// channel is a way to a person.
type channel interface {
	ask(ctx context.Context, message, id string) (volume.Answer, error)
	say(text string) // before the next message
	close()
}

// channel returns the terminal if there is one, else the agents.
func (a *Asker) channel(ctx context.Context, q volume.Question) (channel, error) {
	c, err := a.openTerminal(ctx, q)
	if !errors.Is(err, errNone) {
		return c, err
	}
	c, err = a.openAgents(q)
	if errors.Is(err, errNone) {
		return nil, fmt.Errorf("neither a terminal nor a password agent: %w", volume.ErrNoAnswer)
	}
	if err == nil && a.config.Waiting != nil {
		a.config.Waiting(q.Message)
	}
	return c, err
}

// errNone says that a channel does not exist.
var errNone = errors.New("no such channel")

func (a *Asker) askPerson(ctx context.Context, q volume.Question, c channel) (volume.Answer, error) {
	limited := ctx
	if q.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, q.Timeout)
		defer cancel()
	}
	answer, err := askTwice(limited, q, c)
	switch {
	case err == nil:
		if answer.From == volume.FromPerson {
			a.share(q, answer)
		}
		return answer, nil
	case ctx.Err() != nil:
		return volume.Answer{}, ctx.Err()
	case limited.Err() != nil:
		return volume.Answer{}, fmt.Errorf("no answer within %v: %w", q.Timeout, volume.ErrNoAnswer)
	}
	return volume.Answer{}, err
}

// askTwice asks until both answers agree, or once when there is nothing to
// confirm.
func askTwice(ctx context.Context, q volume.Question, c channel) (volume.Answer, error) {
	if q.Confirm == "" {
		return c.ask(ctx, q.Message, q.ID)
	}
	for range rounds {
		first, err := askOnce(ctx, c, q.Message, q.ID)
		if err != nil {
			return volume.Answer{}, err
		}
		second, err := askOnce(ctx, c, q.Confirm, verificationID(q.ID))
		if err != nil {
			first.Wipe()
			return volume.Answer{}, err
		}
		same := first.Secrets[0].Equal(second.Secrets[0])
		second.Wipe()
		if same {
			return first, nil
		}
		first.Wipe()
		c.say("The two answers differ, please try again.")
	}
	return volume.Answer{}, fmt.Errorf("the answers differed %d times: %w", rounds, volume.ErrNoAnswer)
}

// askOnce drops all but the first answer: alternatives can't be confirmed.
func askOnce(ctx context.Context, c channel, message, id string) (volume.Answer, error) {
	answer, err := c.ask(ctx, message, id)
	if err == nil && len(answer.Secrets) > 1 {
		secret.WipeAll(answer.Secrets[1:])
		answer.Secrets = answer.Secrets[:1]
	}
	return answer, err
}
