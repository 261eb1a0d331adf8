package ask

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// maxCredential bounds a credential, as the service manager does.
const maxCredential = 1 << 20

// maxCached bounds what a kernel key can hold.
const maxCached = 32767

// TakeEnv returns a variable of this process's environment and removes it, so
// that no child inherits it. The caller wipes the secret. What the program was
// started with stays visible to root in /proc until it ends.
func TakeEnv(name string) (*secret.Bytes, bool) {
	value, found := os.LookupEnv(name)
	if !found {
		return nil, false
	}
	_ = os.Unsetenv(name)
	return secret.From([]byte(value)), true
}

// readCredential returns nothing when there is no such credential, or when it
// is empty. The caller wipes the secrets.
func readCredential(directory, name string) ([]*secret.Bytes, error) {
	secrets, err := readSecrets(directory, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("credential %q: %w", name, err)
	}
	return secrets, nil
}

func readSecrets(directory, name string) ([]*secret.Bytes, error) {
	if filepath.Base(name) != name {
		return nil, errors.New("not a file name")
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	// Not blocking, in case it is a pipe.
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(errors.New("not a regular file"), err)
	}
	list, err := secret.ReadAll(file, maxCredential)
	if err != nil {
		return nil, err
	}
	defer list.Wipe()
	return split(list.Reveal())
}

// cached answers a question from the cache.
func (a *Asker) cached(q volume.Question) (volume.Answer, bool) {
	if !a.cacheable(q) {
		return volume.Answer{}, false
	}
	secrets := a.cachedSecrets(q.Cache)
	return volume.Answer{Secrets: secrets, From: volume.FromCache}, secrets != nil
}

// cacheable tells whether the cache may answer: not again after it was wrong,
// and not when the answer is to be typed twice.
func (a *Asker) cacheable(q volume.Question) bool {
	return q.Attempt == 0 && q.Cache != "" && q.Confirm == "" && a.config.Cache.Get != nil
}

// cachedSecrets returns nil when there are none. The caller wipes them.
func (a *Asker) cachedSecrets(name string) []*secret.Bytes {
	list, err := a.config.Cache.Get(name)
	if err != nil {
		return nil
	}
	defer list.Wipe()
	secrets, err := split(list.Reveal())
	if err != nil {
		return nil
	}
	return secrets
}

// share adds a typed answer to the cache and tells those who wait for the same
// one to look there. Failing to share is no reason to fail.
func (a *Asker) share(q volume.Question, answer volume.Answer) {
	cache := a.config.Cache
	if q.Cache == "" || cache.Put == nil {
		return
	}
	var old []*secret.Bytes
	if cache.Get != nil {
		old = a.cachedSecrets(q.Cache)
		defer secret.WipeAll(old)
	}
	payload := merge(old, answer.Secrets)
	defer payload.Wipe()
	timeout := cache.For
	if timeout == 0 {
		timeout = cacheFor
	}
	if payload.Len() > maxCached || cache.Put(q.Cache, payload, timeout) != nil {
		return
	}
	if a.config.Agents != "" {
		now := time.Now()
		_ = os.Chtimes(a.config.Agents, now, now)
	}
}

// merge joins old and fresh secrets without repeating any, or the fresh ones
// alone when there would be too many. The caller wipes the result.
func merge(old, fresh []*secret.Bytes) *secret.Bytes {
	all := append([]*secret.Bytes{}, old...)
	for _, s := range fresh {
		if !contains(all, s) {
			all = append(all, s)
		}
	}
	if len(all) > maxAnswers {
		all = fresh
	}
	return join(all)
}
