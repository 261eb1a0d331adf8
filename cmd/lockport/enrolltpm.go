package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/volume"
)

// Defaults of what a new TPM2 keyslot is bound to.
const (
	defaultPCR       = 7  // Secure Boot policy
	defaultSignedPCR = 11 // kernel image
)

// tpm2Flags are the --tpm2-… options of an enrolment.
type tpm2Flags struct {
	device, deviceKey string
	handle            handleFlag
	pcrs, signedPCRs  pcrFlag
	publicKey         textFlag
	policyRef         textFlag
	signature         string
	pcrLock           textFlag
	pin               pinFlag
	argon2            argon2Flags
}

func (t *tpm2Flags) bind(f *pflag.FlagSet) {
	f.StringVar(&t.device, "tpm2-device", "", "enrol a TPM2: auto, a `DEVICE`, or list to show them")
	f.StringVar(&t.deviceKey, "tpm2-device-key", "", "enrol the TPM2 elsewhere whose storage key's public part is in this `FILE`")
	f.Var(&t.handle, "tpm2-seal-key-handle", "handle of the storage key to seal with (default: the shared one)")
	f.Var(&t.pcrs, "tpm2-pcrs", "bind to these PCRs, such as 7+11 or 4:sha256=VALUE; an empty list binds\nto none (default: 7, or none with a pcrlock policy)")
	f.Var(&t.publicKey, "tpm2-public-key", "bind to PCR values that the owner of this PEM public key signs; empty for none\n(default: tpm2-pcr-public-key.pem where systemd looks for it, if it is there)")
	f.Var(&t.signedPCRs, "tpm2-public-key-pcrs", "PCRs that are signed for (default: 11)")
	f.Var(&t.policyRef, "tpm2-public-key-policyref", "what the signatures have to refer to; read by systemd from 262 on")
	f.StringVar(&t.signature, "tpm2-signature", "", "`FILE` with signatures, to try the new keyslot with")
	f.Var(&t.pcrLock, "tpm2-pcrlock", "bind to this pcrlock policy; empty for none (default: where systemd keeps it)")
	f.Var(&t.pin, "tpm2-with-pin", "ask for a PIN as well: yes or no (default: no)")
	t.argon2.bind(f)
}

// wanted tells whether a TPM2 is to be enrolled.
func (t *tpm2Flags) wanted() bool { return t.device != "" || t.deviceKey != "" }

// check refuses what does not go together, before anybody has to type.
func (t *tpm2Flags) check() error {
	switch {
	case t.device != "" && t.deviceKey != "":
		return errors.New("--tpm2-device and --tpm2-device-key exclude each other")
	case t.argon2.given() && !bool(t.pin):
		return errors.New("the --tpm2-argon2id options are for a PIN: --tpm2-with-pin=yes is missing")
	}
	for _, p := range t.signedPCRs.list {
		if p.Bank != "" || p.Value != nil {
			return errors.New("--tpm2-public-key-pcrs takes PCRs without bank and value")
		}
	}
	return nil
}

// enroller returns what makes the keyslot. The header's tokens are known only
// once it is open; see tpm2Enroller.
func (t *tpm2Flags) enroller(ctx context.Context, a *app) (*tpm2.Enroller, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	e := &tpm2.Enroller{Open: a.tpmFor(t.device, 0), ParentHandle: uint32(t.handle), PIN: bool(t.pin), PCRs: t.pcrs.list,
		Unbound: t.pcrs.given, Root: "/", Question: volume.Question{ID: "cryptenroll-tpm2-pin"}}
	if t.policyRef.given && t.policyRef.text != "" {
		e.PolicyRef = &t.policyRef.text
	}
	if t.signature != "" {
		e.Signatures = []string{t.signature}
	}
	if t.deviceKey != "" {
		public, err := os.ReadFile(t.deviceKey)
		if err != nil {
			return nil, fmt.Errorf("--tpm2-device-key: %w", err)
		}
		e.ParentPublic = public
	}
	if err := t.signer(e); err != nil {
		return nil, err
	}
	a.findPCRLock(t, e)
	if !t.pcrs.given && e.PCRLock == "" {
		e.PCRs = []tpm2.PCR{{Index: defaultPCR}}
	}
	var err error
	e.PINCost, err = t.argon2.cost(ctx)
	return e, err
}

// signer reads the key that signs PCR policies.
func (t *tpm2Flags) signer(e *tpm2.Enroller) error {
	files := tpm2.PublicKeyFiles("/")
	if t.publicKey.given {
		files = []string{t.publicKey.text}
	}
	e.SignedPCRs = []int{defaultSignedPCR}
	if t.signedPCRs.given {
		e.SignedPCRs = t.signedPCRs.indices()
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && !t.publicKey.given {
			continue
		}
		if err != nil {
			return fmt.Errorf("key that signs PCR policies: %w", err)
		}
		e.PublicKey = text
		break
	}
	return nil
}

// findPCRLock takes the pcrlock policy that was named, or that of the machine.
func (a *app) findPCRLock(t *tpm2Flags, e *tpm2.Enroller) {
	if t.pcrLock.given {
		e.PCRLock = t.pcrLock.text
		return
	}
	for _, file := range tpm2.PCRLockFiles("/") {
		if _, err := os.Stat(file); err == nil {
			a.say("Binding to the pcrlock policy %s as well; an empty --tpm2-pcrlock= does without.", file)
			e.PCRLock = file
			return
		}
	}
}

// handleFlag is a handle, in hexadecimal with or without 0x.
type handleFlag uint32

func (h *handleFlag) Set(text string) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(text), "0x"), 16, 32)
	*h = handleFlag(n)
	return err
}
func (h *handleFlag) Type() string   { return "HEX" }
func (h *handleFlag) String() string { return "" }

// pcrFlag is a list of PCRs; given again it adds up.
type pcrFlag struct {
	list  []tpm2.PCR
	given bool
}

func (p *pcrFlag) Set(text string) error {
	list, err := tpm2.ParsePCRs(text)
	p.list, p.given = append(p.list, list...), true
	return err
}
func (p *pcrFlag) Type() string   { return "PCRS" }
func (p *pcrFlag) String() string { return "" }

func (p *pcrFlag) indices() []int {
	var list []int
	for _, pcr := range p.list {
		list = append(list, pcr.Index)
	}
	return list
}

// textFlag is a text for which empty and not given differ.
type textFlag struct {
	text  string
	given bool
}

func (t *textFlag) Set(text string) error {
	t.text, t.given = text, true
	return nil
}
func (t *textFlag) Type() string   { return "TEXT" }
func (t *textFlag) String() string { return "" }

// pinFlag is a boolean, or "direct": what systemd 262 calls a PIN as it was
// before, which is how we always make it unless argon2id is asked for.
type pinFlag bool

func (p *pinFlag) Set(text string) error {
	if text == "direct" {
		*p = true
		return nil
	}
	on, err := parseBool(text)
	*p = pinFlag(on)
	return err
}
func (p *pinFlag) Type() string   { return "BOOL" }
func (p *pinFlag) String() string { return "" }

// argon2Flags derive a PIN with argon2id, which systemd reads from 262 on.
type argon2Flags struct {
	memory            int64
	iterations, lanes uint32
	iterTime          uint32 // milliseconds
}

func (g *argon2Flags) bind(f *pflag.FlagSet) {
	f.Var(sizeFlag{&g.memory}, "tpm2-argon2id-memory", "derive the PIN's key with argon2id, which systemd reads from 262 on, and with\nthis much memory (default: 64M)")
	f.Uint32Var(&g.iterations, "tpm2-argon2id-iterations", 0, "`NUMBER` of passes of that (default: 8)")
	f.Uint32Var(&g.lanes, "tpm2-argon2id-parallelism", 0, "`NUMBER` of threads of that (default: 4)")
	f.Uint32Var(&g.iterTime, "tpm2-argon2id-iter-time", 0, "`MILLISECONDS` that it shall take here, instead of a number of passes")
}

func (g *argon2Flags) given() bool { return *g != argon2Flags{} }

func (g *argon2Flags) cost(ctx context.Context) (*tpm2.PINCost, error) {
	const memory, iterations, lanes = 64 << 20, 8, 4
	if !g.given() {
		return nil, nil
	}
	c := &tpm2.PINCost{Memory: memory, Iterations: iterations, Lanes: lanes}
	if g.memory != 0 {
		c.Memory = uint64(g.memory)
	}
	if g.iterTime != 0 {
		kdf, err := luks2.Benchmark(ctx, luks2.Argon2id, time.Duration(g.iterTime)*time.Millisecond, luks2.Limits{KDFMemory: int64(c.Memory)})
		if err != nil {
			return nil, err
		}
		c.Memory, c.Iterations, c.Lanes = uint64(kdf.Memory)*1024, kdf.Time, kdf.CPUs
	}
	if g.iterations != 0 {
		c.Iterations = g.iterations
	}
	if g.lanes != 0 {
		c.Lanes = g.lanes
	}
	return c, nil
}
