// Package fido2test has a FIDO2 security key made of software, for tests: what it
// keeps secret stands in a file for everybody to read.
//
// It speaks CTAP 2.0 or 2.1 with both PIN protocols, counts wrong PINs, blocks and
// asks to be plugged in again as a real key does. [Key.Conn] and [Port] offer it in
// this process, and a [Wire] as HID reports. What it knows of the protocol is
// written down here a second time on purpose: the client that it tests can't be
// right only by its own measure.
package fido2test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config is what kind of key it is. The zero value is a key of CTAP 2.1 without
// PIN that is touched as soon as it asks for it.
type Config struct {
	Name      string   `json:"name,omitempty"`      // "" for "lockport soft key"
	AAGUID    []byte   `json:"aaguid,omitempty"`    // 16 bytes; nil for one of its own
	CTAP20    bool     `json:"ctap20,omitempty"`    // nothing of CTAP 2.1
	U2F       bool     `json:"u2f,omitempty"`       // nothing of CTAP 2 at all, but for saying so
	Protocols []uint64 `json:"protocols,omitempty"` // PIN protocols; nil for 2 and 1, or 1 with CTAP 2.0
	PIN       string   `json:"pin,omitempty"`       // "" for none
	UV        string   `json:"uv,omitempty"`        // verifies its user: "" can't, "ok" does, "fails" never recognises one
	AlwaysUV  bool     `json:"alwaysUV,omitempty"`
	Touch     string   `json:"touch,omitempty"` // "" at once, "slow" after a while, "never" until it gives up, "wait" until it is cancelled

	NoHMACSecret bool `json:"noHMACSecret,omitempty"`
	NoUP         bool `json:"noUP,omitempty"`      // can't be touched
	HMACTouch    bool `json:"hmacTouch,omitempty"` // hmac-secret only with a touch
	ShyUV        bool `json:"shyUV,omitempty"`     // with AlwaysUV: does not even say silently which credentials it has
	PINForNew    bool `json:"pinForNew,omitempty"` // CTAP 2.1: a PIN for each new credential
}

// state is what a key does not forget.
type state struct {
	Config
	Master     []byte `json:"master"` // wraps the credentials
	PINRetries int    `json:"pinRetries"`
	UVRetries  int    `json:"uvRetries"`
	Counter    uint32 `json:"counter"`
}

const (
	maxPINRetries = 8
	maxUVRetries  = 3
	maxMisses     = 3 // wrong PINs until it wants to be plugged in again
)

// Key is a security key. It is safe for concurrent use.
type Key struct {
	// Pace is how long it takes from one sign of life to the next while it waits
	// for a person; set it before use.
	Pace time.Duration

	mu     sync.Mutex
	s      state
	file   string
	misses int // wrong PINs since it was plugged in
	agree  *ecdh.PrivateKey
	token  token
}

// token is the PIN token that is in use.
type token struct {
	value    []byte
	protocol uint64
	permits  uint64
	rp       string // "" for any
	verified bool
}

// New makes a key.
func New(c Config) *Key {
	k := &Key{s: state{Config: c, Master: random(32), PINRetries: maxPINRetries, UVRetries: maxUVRetries}}
	k.Replug()
	return k
}

// Load makes a key of what a file keeps of it. Where there is no such file, it makes
// a new key of the given kind.
func Load(file string, c Config) (*Key, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		k := New(c)
		k.file = file
		return k, k.save()
	}
	if err != nil {
		return nil, err
	}
	k := &Key{file: file}
	if err := json.Unmarshal(b, &k.s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(k.s.Master) == 0 { // a file that only has the kind
		n := New(k.s.Config)
		n.file = file
		return n, n.save()
	}
	k.Replug()
	return k, nil
}

// Change changes what kind of key it is.
func (k *Key) Change(f func(c *Config)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.s.Config)
	if err := k.save(); err != nil {
		panic(err)
	}
}

// Retries returns how many PINs may still be tried.
func (k *Key) Retries() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.s.PINRetries
}

// save writes the state in one piece.
func (k *Key) save() error {
	if k.file == "" {
		return nil
	}
	b, err := json.MarshalIndent(k.s, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(k.file), "."+filepath.Base(k.file)+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, k.file)
}

// Replug does what pulling it out and plugging it in does.
func (k *Key) Replug() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.misses = 0
	k.forget()
}

// forget makes new keys for what passes the wire.
func (k *Key) forget() {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	k.agree, k.token = private, token{}
}

func random(n int) []byte {
	b := make([]byte, n)
	// rand.Read never returns an error: it ends the program instead.
	_, _ = rand.Read(b)
	return b
}

// name is what the key calls itself.
func (k *Key) name() string {
	if k.s.Name != "" {
		return k.s.Name
	}
	return "lockport soft key"
}

// Name is what the key calls itself.
func (k *Key) Name() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.name()
}

// The signs of life.
const (
	processing = 1
	upNeeded   = 2
)

// slowTouch is how many signs of life a slow person takes, and giveUp how many the
// key gives before it gives up.
const (
	slowTouch = 3
	giveUp    = 5
)

// touch waits for a person and returns a status.
func (k *Key) touch(ctx context.Context, alive func(status byte)) status {
	for n := 1; ; n++ {
		if ctx.Err() != nil {
			return errCancel
		}
		alive(upNeeded)
		switch k.s.Touch {
		case "":
			return ok
		case "slow":
			if n == slowTouch {
				return ok
			}
		case "never":
			if n == giveUp {
				return errUserTimeout
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(k.Pace, time.Millisecond)):
		}
	}
}
