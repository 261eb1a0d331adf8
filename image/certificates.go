package image

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/lockport/lockport/internal/verity"
)

// certificateDirs are where a host has the certificates of those who may sign
// images: systemd's dissect-image.c.
var certificateDirs = []string{"etc/verity.d", "run/verity.d", "usr/local/lib/verity.d", "usr/lib/verity.d"}

// Bounds on the certificates of a host.
const (
	maxCertificates = 1024
	maxCertificate  = 1 << 20
)

// Certificates reads the certificates that a host trusts to sign images, the
// files *.crt in its directories verity.d. As with all such directories, a file
// hides those of the same name in the later ones, and an empty file or a link to
// /dev/null hides them and is none itself. What can't be read is left out, and
// in the error.
func Certificates(root string) ([]*x509.Certificate, error) {
	t, err := OpenTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	c := collection{tree: t, have: map[string]bool{}}
	for _, dir := range certificateDirs {
		c.add(dir)
	}
	return c.list, errors.Join(c.bad...)
}

type collection struct {
	tree *Tree
	have map[string]bool
	list []*x509.Certificate
	bad  []error
}

func (c *collection) add(dir string) {
	entries, err := fs.ReadDir(c.tree, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.bad = append(c.bad, fmt.Errorf("reading /%s: %w", dir, cause(err)))
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".crt") || c.have[e.Name()] || len(c.have) >= maxCertificates {
			continue
		}
		c.have[e.Name()] = true
		cert, err := readCertificate(c.tree, path.Join(dir, e.Name()))
		if err != nil {
			c.bad = append(c.bad, err)
		}
		if cert != nil {
			c.list = append(c.list, cert)
		}
	}
}

func readCertificate(t *Tree, name string) (*x509.Certificate, error) {
	text, err := ReadFile(t, name, maxCertificate)
	if errors.Is(err, ErrNotRegular) || errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := verity.ParseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", name, err)
	}
	return c, nil
}

// WithTrust takes signatures of those whom a host trusts, see [Certificates], and
// of the certificates in files of the host that the program runs on.
func WithTrust(root string, files ...string) Option {
	return WithCertificates(func() ([]*x509.Certificate, error) {
		list, err := Certificates(root)
		for _, name := range files {
			c, bad := certificateIn(name)
			if bad != nil {
				err = errors.Join(err, bad)
				continue
			}
			list = append(list, c)
		}
		return list, err
	})
}

func certificateIn(name string) (*x509.Certificate, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := readAll(f, name, maxCertificate)
	if err != nil {
		return nil, err
	}
	c, err := verity.ParseCertificate(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}
