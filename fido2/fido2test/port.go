package fido2test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/lockport/lockport/fido2"
)

// Conn connects to the key in this process.
func (k *Key) Conn() fido2.Conn { return &conn{k: k, gone: make(chan struct{})} }

type conn struct {
	k    *Key
	gone chan struct{}
}

func (c *conn) Call(ctx context.Context, request []byte, touch func()) ([]byte, error) {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.gone:
			cancel()
		case <-limited.Done():
		}
	}()
	answer := c.k.Handle(limited, append([]byte(nil), request...), func(status byte) {
		if status == upNeeded && touch != nil {
			touch()
		}
	})
	select {
	case <-c.gone:
		return nil, fido2.ErrGone
	default:
	}
	return answer, ctx.Err()
}

// Port is where keys are plugged in and pulled out by a test. The zero value is one
// without keys. It is safe for concurrent use.
type Port struct {
	mu    sync.Mutex
	slots []slot
	count int
}

type slot struct {
	found fido2.Found
	key   *Key
	gone  chan struct{}
}

var _ fido2.Port = (*Port)(nil)

// Plug plugs a key in and returns its path.
func (p *Port) Plug(k *Key) string {
	k.Replug()
	p.mu.Lock()
	defer p.mu.Unlock()
	path := ""
	for n := 0; path == "" || p.at(path) >= 0; n++ {
		path = fmt.Sprintf("/dev/hidraw%d", n)
	}
	p.count++
	p.slots = append(p.slots, slot{fido2.Found{Path: path, ID: fmt.Sprint(p.count), Product: k.Name()}, k, make(chan struct{})})
	return path
}

// at returns the slot of a path, -1 for none.
func (p *Port) at(path string) int {
	for i, s := range p.slots {
		if s.found.Path == path {
			return i
		}
	}
	return -1
}

// Unplug pulls the key with this path out, if there is one.
func (p *Port) Unplug(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.at(path)
	if i < 0 {
		return
	}
	close(p.slots[i].gone)
	p.slots = append(p.slots[:i:i], p.slots[i+1:]...)
}

// List lists the keys.
func (p *Port) List() ([]fido2.Found, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []fido2.Found
	for _, s := range p.slots {
		list = append(list, s.found)
	}
	return list, nil
}

// Open connects to a key.
func (p *Port) Open(_ context.Context, path string) (fido2.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.at(path)
	if i < 0 {
		return nil, fmt.Errorf("%w: %s", fido2.ErrGone, path)
	}
	return &conn{p.slots[i].key, p.slots[i].gone}, nil
}

// Folder is a [fido2.Port] whose keys are the files NAME.json of a folder, with the
// paths /dev/NAME. Each is plugged in for as long as a program runs.
type Folder struct {
	Dir  string
	mu   sync.Mutex
	keys map[string]*Key
}

var _ fido2.Port = (*Folder)(nil)

// List lists the files.
func (f *Folder) List() ([]fido2.Found, error) {
	files, err := filepath.Glob(filepath.Join(f.Dir, "*.json"))
	var list []fido2.Found
	for _, file := range files {
		path := "/dev/" + strings.TrimSuffix(filepath.Base(file), ".json")
		k, err := f.key(path)
		if err != nil {
			return nil, err
		}
		list = append(list, fido2.Found{Path: path, ID: path, Product: k.Name()})
	}
	return list, err
}

// Open connects to the key of a file.
func (f *Folder) Open(_ context.Context, path string) (fido2.Conn, error) {
	k, err := f.key(path)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("%w: %s", fido2.ErrGone, path)
	}
	if err != nil {
		return nil, err
	}
	return k.Conn(), nil
}

func (f *Folder) key(path string) (*Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.keys[path]; k != nil {
		return k, nil
	}
	file := filepath.Join(f.Dir, strings.TrimPrefix(path, "/dev/")+".json")
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	k, err := Load(file, Config{})
	if err != nil {
		return nil, err
	}
	if f.keys == nil {
		f.keys = map[string]*Key{}
	}
	f.keys[path] = k
	return k, nil
}
