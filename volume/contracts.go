// Package volume has the verbs on an encrypted volume: unlock, enrol, list,
// test, wipe, name. It decides what happens in which order and leaves the
// formats to luks2, the devices to the key mechanisms and the person to an
// [Asker].
package volume

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// ErrNoAnswer is returned by an [Asker] that has nobody left to ask: there is
// no terminal, prompts are switched off, or the person gave up.
var ErrNoAnswer = errors.New("nobody to ask for a secret")

// Source says where an answer came from, which decides what happens when it
// is wrong.
type Source int

// The sources of an answer.
const (
	FromPerson      Source = iota // typed: ask again
	FromEnvironment               // given by a script: wrong is final
	FromCredential                // given by the service manager: ask the person next
	FromCache                     // typed for another volume: ask the person next
)

// Question is one request for a secret.
type Question struct {
	Message    string        // for the person, "Please enter passphrase for disk …"
	ID         string        // for password agents and logs, "cryptsetup:/dev/sda2"
	Env        string        // environment variable that may hold the answer; "" for none
	Credential string        // system credential that may hold it, "cryptsetup.passphrase"; "" for none
	Confirm    string        // second message of a new secret, which is then asked twice; "" for none
	Attempt    int           // 0 at first; environment, credential and cache only answer attempt 0
	Echo       Echo          // what a terminal shows while a person types
	Timeout    time.Duration // for a person's answer; 0 is for ever
	Cache      string        // kernel key that shares answers between volumes; "" for none
}

// Or takes from defaults the texts and names that the question leaves open.
func (q Question) Or(defaults Question) Question {
	q.Message = cmp.Or(q.Message, defaults.Message)
	q.ID = cmp.Or(q.ID, defaults.ID)
	q.Env = cmp.Or(q.Env, defaults.Env)
	q.Credential = cmp.Or(q.Credential, defaults.Credential)
	q.Confirm = cmp.Or(q.Confirm, defaults.Confirm)
	q.Cache = cmp.Or(q.Cache, defaults.Cache)
	return q
}

// Echo is what a terminal shows of a typed secret.
type Echo int

// The ways to echo.
const (
	EchoMasked Echo = iota // a mark for each character
	EchoNone
	EchoPlain
)

// Answer holds the secrets given in reply to a [Question]: often one, but a
// credential or an agent may bring several, and each is worth a try. Whoever
// asked wipes them.
type Answer struct {
	Secrets []*secret.Bytes
	From    Source
}

// Wipe wipes all secrets of the answer.
func (a Answer) Wipe() { secret.WipeAll(a.Secrets) }

// Asker gets secrets from wherever they are typed or kept. Ask returns an error
// wrapping [ErrNoAnswer] when there is no way to ask, or the context's error.
// Implementations need not be safe for concurrent use.
type Asker interface {
	Ask(ctx context.Context, q Question) (Answer, error)
}

// Unlocker turns a token of one type into the passphrase of the keyslots that
// it names. The caller wipes the result.
type Unlocker interface {
	TokenType() string
	Unlock(ctx context.Context, token json.RawMessage, ask Asker) (*secret.Bytes, error)
}

// Enroller makes a fresh passphrase and the token that will bring it back. The
// token is nil for kinds that need none; its "keyslots" member is filled in by
// the caller, who also wipes the passphrase.
type Enroller interface {
	TokenType() string
	Enroll(ctx context.Context, ask Asker) (pass *secret.Bytes, token json.RawMessage, err error)
}

// Mapper makes and removes the kernel's mappings. Map returns once the node
// /dev/mapper/NAME can be opened; it does not take over the key.
type Mapper interface {
	Map(ctx context.Context, name string, t luks2.Table, key *secret.Bytes) error
	Unmap(ctx context.Context, name string) error
	// Mapped returns the UUID of the mapping, "" when there is none.
	Mapped(ctx context.Context, name string) (uuid string, err error)
}
