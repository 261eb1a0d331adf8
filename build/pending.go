package build

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// pending are files that are not under their names yet.
type pending struct {
	files     []*os.File
	names     []string
	published int // of the last ones
	replace   bool
}

// temporary is a name beside another that nobody else uses, and that is no image's.
func temporary(name string) string {
	return filepath.Join(filepath.Dir(name), ".#"+filepath.Base(name)+"."+rand.Text()[:8])
}

// create begins a file. It has the rights of any other that this process makes.
func (p *pending) create(name string) (*os.File, error) {
	f, err := os.OpenFile(temporary(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	p.files, p.names = append(p.files, f), append(p.names, name)
	return f, nil
}

// commit gives the files their names, the first one last: who sees that sees all.
// Then it removes what is stale.
func (p *pending) commit(stale []string) error {
	for _, f := range p.files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	for i := len(p.files) - 1; i >= 0; i-- {
		if err := p.publish(p.files[i].Name(), p.names[i]); err != nil {
			return err
		}
		p.published++
	}
	for _, n := range stale {
		if err := os.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return p.settle()
}

// settle closes the files, and waits until their names are on the disk.
func (p *pending) settle() error {
	for _, f := range p.files {
		if err := f.Close(); err != nil {
			return err
		}
	}
	dir, err := os.Open(filepath.Dir(p.names[0]))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// publish gives a file its name, for which nothing that is there is lost unless
// it is to be replaced.
func (p *pending) publish(temporary, name string) error {
	if p.replace {
		return os.Rename(temporary, name)
	}
	if err := os.Link(temporary, name); err != nil {
		return err
	}
	return os.Remove(temporary)
}

// discard removes what was made. Of what has its name already, only that goes
// which replaced nothing.
func (p *pending) discard() error {
	var list []error
	for i, f := range p.files {
		_ = f.Close() // it may be closed already
		name := f.Name()
		if i >= len(p.files)-p.published {
			if p.replace {
				continue
			}
			name = p.names[i]
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			list = append(list, err)
		}
	}
	return errors.Join(list...)
}
