package tpm2

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// Blob opens a volume with a sealed object that is kept in a file of its own
// and not in a token. What a token would record is not known then: the parent is
// one made from the template of systemd before 254, and whether the policy is
// met shows when the TPM unseals. See crypttab(5), tpm2-device= with a key file.
type Blob struct {
	Key     *Key             // its PCRs are what the object is bound to, nil for PCR 7
	Source  volume.KeySource // of the object
	PIN     bool             // it wants one
	Keyslot int              // luks2.AnySlot for all
}

var _ volume.Method = Blob{}

// Name names the file.
func (b Blob) Name() string { return "TPM2 with " + b.Source.Path }

// Silent is false if a PIN is asked for.
func (b Blob) Silent() bool { return !b.PIN }

// VolumeKey makes one attempt.
func (b Blob) VolumeKey(ctx context.Context, h *luks2.Header, ask volume.Asker, _ int) (volume.Key, bool, error) {
	pass, err := b.unseal(ctx, ask)
	if err != nil {
		return volume.Key{}, true, volume.Next(err)
	}
	defer pass.Wipe()
	key, err := volume.Open(ctx, h, b.Keyslot, pass)
	if err != nil {
		return volume.Key{}, true, volume.Next(err)
	}
	return key, true, nil
}

func (b Blob) unseal(ctx context.Context, ask volume.Asker) (*secret.Bytes, error) {
	data, err := b.Source.Read(ctx)
	if err != nil {
		return nil, err
	}
	defer data.Wipe()
	if _, err := parseBlob(data.Reveal()); err != nil {
		return nil, fmt.Errorf("%s: %w", b.Source.Path, err)
	}
	t := &Token{Blobs: [][]byte{bytes.Clone(data.Reveal())}, PCRs: b.Key.PCRs, PIN: b.PIN}
	if t.PCRs == nil {
		t.PCRs = []int{7}
	}
	pass, err := b.Key.unlockToken(ctx, t, ask)
	if errors.Is(err, ErrOtherTPM) {
		t.PrimaryAlg = "rsa"
		pass, err = b.Key.unlockToken(ctx, t, ask)
	}
	return pass, err
}
