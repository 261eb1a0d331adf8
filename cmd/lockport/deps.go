package main

import (
	"os"
	"strconv"
	"time"

	"github.com/lockport/lockport/image"
	"github.com/lockport/lockport/internal/ask"
	"github.com/lockport/lockport/internal/kernel"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// This file is the only place that knows which real thing stands behind which
// contract.

// What the kernel's side refuses, for the advice.
var (
	errBusy          = kernel.ErrBusy
	errMapped        = kernel.ErrExists
	errNoMapping     = kernel.ErrUnsupported
	errNothingBehind = kernel.ErrNotFound
)

// mapper is what the commands need of the kernel.
type mapper interface {
	volume.Mapper
	AttachLoop(path string, readOnly bool) (device string, release func() error, err error)
	Backing(path string) (device string, err error)
	LUKSDevices() ([]kernel.Device, error)
}

func (a *app) mapper() mapper { return kernel.New(kernel.Options{Log: a.log()}) }

// mounter mounts file systems of images that are not read by us.
func (a *app) mounter() image.Mounter { return kernel.New(kernel.Options{Log: a.log()}) }

// lockMemory keeps what we do from being swapped out, as far as we are allowed.
func (a *app) lockMemory() {
	if err := kernel.LockMemory(); err != nil {
		a.log().Info("memory is not locked", "reason", err)
	}
}

// asking limits whom questions go to.
type asking struct {
	headless  bool // no person
	cacheOnly bool // take answers from the cache, but leave none there
}

// asker returns whoever answers questions: environment, credentials, the cache
// and a person.
func (a *app) asker(o asking) volume.Asker {
	shared := cache(os.Getenv("SYSTEMD_ASK_PASSWORD_KEYRING_TIMEOUT_SEC"))
	if o.cacheOnly {
		shared.Put = nil
	}
	return ask.New(ask.Config{
		TakeEnv:     ask.TakeEnv,
		Credentials: os.Getenv("CREDENTIALS_DIRECTORY"),
		Cache:       shared,
		Terminal:    ask.OpenTerminal(os.Stdin),
		Agents:      "/run/systemd/ask-password",
		Headless:    o.headless,
		Waiting: func(question string) {
			a.say("No terminal here: waiting for a password agent to answer %q.", question)
		},
	})
}

// cache shares typed secrets for the seconds that the originals' variable says;
// 0 switches that off.
func cache(seconds string) ask.Cache {
	c := ask.Cache{Get: kernel.CacheGet, Put: kernel.CachePut}
	if n, err := strconv.ParseUint(seconds, 10, 31); err == nil {
		if n == 0 {
			return ask.Cache{}
		}
		c.For = time.Duration(n) * time.Second
	}
	return c
}

// kernelKey looks up what luks2-keyring tokens name.
func kernelKey(description string) (*secret.Bytes, error) { return kernel.Key(description) }

var _ mapper = (*kernel.Mapper)(nil)
