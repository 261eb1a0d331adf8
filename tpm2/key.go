package tpm2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// Key opens keyslots with a TPM. It keeps no state between calls and is safe for
// concurrent use if Open and Failed are.
type Key struct {
	// Open opens the TPM; [Open] will do. A device that is an io.Closer is
	// closed after each use.
	Open func(ctx context.Context) (Device, error)
	// Signatures and PCRLocks are where the files of signed and of pcrlock
	// policies may be; the first that exists, and for pcrlock belongs to the
	// token, is used. See [SignatureFiles] and [PCRLockFiles].
	Signatures, PCRLocks []string
	// SignatureText, if not nil, is taken in place of a file of signatures: that of
	// a kernel image that was not booted yet, say.
	SignatureText []byte
	// PCRs, if not nil, are those that a token has to be bound to literally; others
	// are not tried.
	PCRs []int
	// Question is how a PIN is asked for. Where its Message, Env, Credential
	// and Cache are empty, those of systemd-cryptsetup are taken.
	Question volume.Question
	NoCache  bool            // PINs are not shared between volumes
	Tries    int             // of PINs; 0 for 5
	Failed   func(err error) // is told of a wrong PIN before the next is asked for; may be nil
}

var _ volume.Unlocker = (*Key)(nil)

// TokenType is [TokenType].
func (*Key) TokenType() string { return TokenType }

// SignatureFiles returns where systemd looks for PCR signatures.
func SignatureFiles(root string) []string {
	dirs := configDirs()
	if _, err := os.Stat(filepath.Join(root, "etc/initrd-release")); err == nil {
		dirs = append(dirs, ".extra") // where the boot stub puts them
	}
	return inDirs(root, dirs, "tpm2-pcr-signature.json")
}

// PCRLockFiles returns where systemd keeps its pcrlock policy.
func PCRLockFiles(root string) []string {
	return inDirs(root, []string{"run/systemd", "var/lib/systemd"}, "pcrlock.json")
}

// PublicKeyFiles returns where systemd looks for the key that signs PCR
// policies, when a volume is enrolled.
func PublicKeyFiles(root string) []string {
	return inDirs(root, configDirs(), "tpm2-pcr-public-key.pem")
}

func configDirs() []string {
	return []string{"etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"}
}

func inDirs(root string, dirs []string, name string) []string {
	var list []string
	for _, d := range dirs {
		list = append(list, filepath.Join(root, d, name))
	}
	return list
}

// Unlock unseals the token's secret and returns the passphrase of its keyslot,
// which the caller wipes. The errors are those of this package and of ask. All
// but [ErrPIN] and [ErrLockout] come before a person is bothered, and nothing
// counts as guessing but a wrong PIN.
func (k *Key) Unlock(ctx context.Context, token json.RawMessage, ask volume.Asker) (*secret.Bytes, error) {
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	if k.PCRs != nil && !slices.Equal(slices.Compact(slices.Sorted(slices.Values(k.PCRs))), t.PCRs) {
		return nil, fmt.Errorf("the token is not bound to %s but to %s", pcrText(k.PCRs), pcrText(t.PCRs))
	}
	return k.unlockToken(ctx, t, ask)
}

func (k *Key) unlockToken(ctx context.Context, t *Token, ask volume.Asker) (*secret.Bytes, error) {
	dev, err := k.Open(ctx)
	if err != nil {
		return nil, err
	}
	pass, err := k.unlock(ctx, &conn{dev}, t, ask)
	if closed := closeDevice(dev); err == nil && closed != nil {
		pass.Wipe()
		return nil, fmt.Errorf("closing the TPM: %w", closed)
	}
	return pass, err
}

func (k *Key) unlock(ctx context.Context, c *conn, t *Token, ask volume.Asker) (*secret.Bytes, error) {
	pins := &pins{key: k, t: t, ask: ask, defaults: volume.Question{Message: "Please enter TPM2 PIN:", Env: "PIN",
		Credential: "cryptsetup.tpm2-pin", Cache: "tpm2-pin"}}
	defer pins.wipe()
	return k.unlockWith(ctx, c, t, pins)
}

// unlockWith unseals the shards one after the other. The pins stay the caller's.
func (k *Key) unlockWith(ctx context.Context, c *conn, t *Token, pins *pins) (*secret.Bytes, error) {
	u, err := k.unsealer(ctx, c, t)
	if err != nil {
		return nil, err
	}
	var shards []*secret.Bytes
	defer func() { secret.WipeAll(shards) }()
	for i := range t.Blobs {
		s, err := k.shard(ctx, u, i, pins)
		if err != nil {
			return nil, err
		}
		shards = append(shards, s)
	}
	return passphrase(shards, pins.keys.lock)
}

// shard opens a shard and unseals it, with PINs until one is right.
func (k *Key) shard(ctx context.Context, u *unsealer, i int, pins *pins) (s *secret.Bytes, err error) {
	o, err := u.open(ctx, i)
	if err != nil {
		return nil, err
	}
	defer func() {
		if shut := u.shut(ctx, o); err == nil && shut != nil {
			s.Wipe()
			s, err = nil, shut
		}
	}()
	for round := 1; ; round++ {
		if err := pins.ready(ctx); err != nil {
			return nil, err
		}
		s, err := u.unseal(ctx, o, pins.keys.auth)
		switch {
		case err == nil:
			return s, nil
		case errors.Is(err, ErrPIN):
			if err := pins.wrong(err); err != nil {
				return nil, err
			}
		case codeOf(err) == rcPCRChanged && round < maxRounds:
			if err := u.shut(ctx, o); err != nil {
				return nil, err
			}
			if o, err = u.open(ctx, i); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

// unsealer gathers what the token's policy needs.
func (k *Key) unsealer(ctx context.Context, c *conn, t *Token) (*unsealer, error) {
	u := &unsealer{c: c, t: t}
	var err error
	if len(t.SignedPCRs) > 0 {
		if u.signer, err = t.signer(); err != nil {
			return nil, err
		}
		u.public = signerPublic(u.signer, uint32(u.signer.E))
		if u.sigs, err = k.signatures(); err != nil {
			return nil, err
		}
	}
	if t.PCRLock {
		if _, u.lock, err = findPCRLock(k.PCRLocks, t); err != nil {
			return nil, err
		}
	}
	switch {
	case t.Bank != "":
		u.bank, err = bankByName(t.Bank)
	case len(t.PCRs)+len(t.SignedPCRs) > 0:
		u.bank, err = c.bestBank(ctx, append(append([]int{}, t.PCRs...), t.SignedPCRs...))
	}
	return u, err
}

func (k *Key) signatures() (signatures, error) {
	if k.SignatureText != nil {
		return parseSignatures(k.SignatureText)
	}
	for _, name := range k.Signatures {
		text, err := readFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var s signatures
		if err == nil {
			s, err = parseSignatures(text)
		}
		if err != nil {
			return nil, fmt.Errorf("PCR signatures in %s: %w", name, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("%w: there is no file of PCR signatures", ErrNoSignature)
}

// findPCRLock returns the policy that belongs to the token, and its file.
func findPCRLock(files []string, t *Token) (string, *pcrLock, error) {
	var reasons []error
	for _, name := range files {
		p, err := readPCRLock(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil && p.fits(t) {
			return name, p, nil
		}
		if err == nil {
			err = errors.New("it belongs to another enrolment")
		}
		reasons = append(reasons, fmt.Errorf("pcrlock policy %s: %w", name, err))
	}
	return "", nil, errors.Join(append([]error{fmt.Errorf("%w: the token needs a pcrlock policy", ErrPolicy)}, reasons...)...)
}

// readFile reads a policy file, which no sane one fills.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
}
