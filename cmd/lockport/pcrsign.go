package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2"
	"github.com/lockport/lockport/tpm2/uki"
)

// Bounds of what is read as a whole, in bytes.
const (
	maxKeyFile    = 64 << 10
	maxSignatures = 4 << 20
)

type signOptions struct {
	bootOptions
	key, public, certificate string
	add, output, ref         string
	mode                     string
}

func (a *app) pcrSignCommand() *cobra.Command {
	o := &signOptions{mode: "short"}
	cmd := &cobra.Command{
		Use:   "sign [OPTIONS] [UKI]",
		Short: "Sign what PCR 11 will be when a kernel image boots",
		Long: `Signs what PCR 11 will be when a unified kernel image (UKI) has booted to a phase,
as 'systemd-measure sign' does, and prints the signatures as JSON. Stored as
tpm2-pcr-signature.json, or in the image's section .pcrsig, they let a volume
open that is enrolled with the public key.

No TPM is needed. The key is an RSA key of 2048 bits or more, not encrypted.`,
		Example: `  lockport pcr sign --private-key=pcr.pem --bank=sha256 --output=tpm2-pcr-signature.json linux.efi
  lockport pcr sign --private-key=pcr.pem --append=old.json --phase=enter-initrd new.efi`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args); err != nil {
				return err
			}
			return a.pcrSign(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.key, "private-key", "", "PEM `FILE` with the key that signs")
	f.StringVar(&o.public, "public-key", "", "PEM `FILE` with its public key, to be sure that they belong together")
	f.StringVar(&o.certificate, "certificate", "", "PEM `FILE` with its X.509 certificate, for the same")
	f.StringVar(&o.add, "append", "", "`FILE` with signatures that go into the output too")
	f.StringVar(&o.output, "output", "", "`FILE` to write, which may exist (default: standard output)")
	f.StringVar(&o.ref, "policy-ref", "", "`TEXT` that volumes enrolled with --tpm2-public-key-policyref want to see in signatures")
	o.bind(f)
	bindJSON(f, &o.mode)
	return cmd
}

func (o *signOptions) check(cmd *cobra.Command, args []string) error {
	switch {
	case o.key == "":
		return misused(cmd, "--private-key is missing")
	case o.public != "" && o.certificate != "":
		return misused(cmd, "--public-key and --certificate are given, one is enough")
	case o.mode == "off":
		return misused(cmd, "--json=off: signatures are JSON")
	}
	return o.bootOptions.check(cmd, args)
}

func (a *app) pcrSign(ctx context.Context, args []string, o *signOptions) error {
	signer, err := o.signer()
	if err != nil {
		return err
	}
	var existing []byte
	if o.add != "" {
		if existing, err = readSmall(o.add, maxSignatures); err != nil {
			return err
		}
	}
	m, err := o.measure(ctx, args)
	if err != nil {
		return err
	}
	states, err := o.states(m)
	if err != nil {
		return err
	}
	text, err := signer.Sign(states, &o.ref, existing)
	if err != nil {
		return onDevice(or(o.add, o.key), err)
	}
	return a.writeSignatures(text, o)
}

// signer reads the private key, and checks that the public one is its own.
func (o *signOptions) signer() (*tpm2.PolicySigner, error) {
	f, err := os.Open(o.key)
	if err != nil {
		return nil, onDevice(o.key, err)
	}
	defer f.Close()
	text, err := secret.ReadAll(f, maxKeyFile)
	if err != nil {
		return nil, onDevice(o.key, err)
	}
	defer text.Wipe()
	signer, err := tpm2.ParsePolicySigner(text)
	if errors.Is(err, luks2.ErrUnsupported) {
		err = marked{err, errSigningKey}
	}
	if err != nil {
		return nil, onDevice(o.key, err)
	}
	if path := or(o.public, o.certificate); path != "" {
		public, err := readSmall(path, maxKeyFile)
		if err != nil {
			return nil, err
		}
		if err := signer.Matches(public); err != nil {
			return nil, onDevice(path, err)
		}
	}
	return signer, nil
}

// states are those that get signed, in the original's order.
func (o *signOptions) states(m *uki.Measurement) ([]tpm2.PCRState, error) {
	var list []tpm2.PCRState
	for _, phase := range o.phases {
		for _, bank := range o.banks {
			value, err := m.PCR11(bank, uki.ParsePhase(phase))
			if err != nil {
				return nil, err
			}
			list = append(list, tpm2.PCRState{Bank: bank, Values: map[int][]byte{uki.PCR: value}})
		}
	}
	return list, nil
}

func (a *app) writeSignatures(text []byte, o *signOptions) error {
	if o.mode == "pretty" {
		var b bytes.Buffer
		if err := json.Indent(&b, text, "", "  "); err != nil {
			return err
		}
		text = b.Bytes()
	}
	if o.output == "" {
		_, err := a.out.Write(text)
		return err
	}
	if err := replaceFile(o.output, text); err != nil {
		return onDevice(o.output, err)
	}
	a.say("Signatures written to %s.", o.output)
	return nil
}

// replaceFile writes a file so that at each moment either the old one is there or
// the new one, as a whole. A link stays one, and what is no file, such as
// /dev/stdout, is not replaced by one.
func replaceFile(path string, content []byte) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return errors.New("no regular file")
	}
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to
	}
	draft := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d", filepath.Base(path), os.Getpid()))
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(draft, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	return nil
}

// readSmall reads a file that can't be large.
func readSmall(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, onDevice(path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(text) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return text, onDevice(path, err)
}
