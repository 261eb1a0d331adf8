package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/image"
)

// verifyOptions are those of verify.
type verifyOptions struct {
	portableOptions
	rootHash string
}

func (a *app) portableVerifyCommand() *cobra.Command {
	o := &verifyOptions{}
	cmd := &cobra.Command{
		Use:   "verify [OPTIONS] IMAGE",
		Short: "Read all of an image and compare it with its root hash",
		Long: `Reads all of an image and compares each block with its hash tree (dm-verity),
which is a partition of the image or the file NAME.verity beside it. The root
hash of the tree comes from --root-hash, from NAME.roothash or NAME.usrhash beside
the image, from its signature partition, or else from the UUIDs of its partitions.

Only --root-hash and a signature tell that an image is what someone else made: who
can change the image can change all the rest. A signature counts if it is from one
of the certificates in /etc/verity.d, /run/verity.d, /usr/local/lib/verity.d,
/usr/lib/verity.d (*.crt) and --certificate. A signature that nobody trusted has
made is an error with --image-policy=root=signed.`,
		Example: `  lockport portable verify web_3
  lockport portable verify --certificate=vendor.crt --image-policy=root=signed ./web_3.raw`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.portableVerify(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.root, "root", "/", "find images and certificates in the tree in `DIR`")
	o.bindJSON(f)
	a.bindQuiet(f)
	f.StringVar(&o.rootHash, "root-hash", "", "the root hash that the image must have, in `HEX`")
	o.bindPolicy(f)
	return cmd
}

func (a *app) portableVerify(ctx context.Context, arg string, o *verifyOptions) error {
	host := a.rooted(&o.portableOptions)
	options, err := a.imageOptions(host)
	if err != nil {
		return err
	}
	if o.rootHash != "" {
		hash, err := image.ParseRootHash(o.rootHash)
		if err != nil {
			return fmt.Errorf("--root-hash: %w", err)
		}
		options = append(options, image.WithRootHash(hash))
	}
	ref, err := host.imagePath(arg)
	if err != nil {
		return err
	}
	img, err := image.Open(ctx, host.root, ref, options...)
	if err != nil {
		return err
	}
	defer img.Close()
	if err := img.Verify(ctx); err != nil {
		return err
	}
	v := img.Layout.Verity
	switch {
	case v.Unsigned == nil || errors.Is(v.Unsigned, image.ErrUnsigned):
	case errors.Is(v.Unsigned, image.ErrUntrusted):
		a.warn("%s: signed, but by nobody whose certificate is here: %v", img.Path, v.Unsigned)
	default:
		return fmt.Errorf("%s: %w", img.Path, v.Unsigned)
	}
	if o.json {
		return printPretty(a.out, verdictOf(img))
	}
	if a.quiet {
		return nil
	}
	return printVerdict(a.out, img)
}

// verdict is what verify says as JSON.
type verdict struct {
	Image    string `json:"image"`
	Verified string `json:"verified"` // root or usr
	Size     int64  `json:"size"`     // bytes
	RootHash string `json:"rootHash"`
	Source   string `json:"source"`
	Signer   string `json:"signer,omitempty"`
	Signed   bool   `json:"signed"` // by someone who is trusted
}

func verdictOf(img *image.Image) verdict {
	v := img.Layout.Verity
	out := verdict{Image: img.Path, Verified: v.Of, RootHash: hex.EncodeToString(v.RootHash), Source: v.Source}
	for _, p := range img.Layout.Parts {
		if p.Designator == v.Of {
			out.Size = p.Size
		}
	}
	if v.Signer != nil {
		out.Signer, out.Signed = v.Signer.Subject.String(), true
	}
	return out
}

func printVerdict(w io.Writer, img *image.Image) error {
	v := verdictOf(img)
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s is what its root hash stands for.\n", v.Image, v.Verified)
	fmt.Fprintf(&b, "Root hash: %s, from %s.\n", v.RootHash, v.Source)
	switch {
	case v.Signed:
		fmt.Fprintf(&b, "Signed by: %s.\n", v.Signer)
	case v.Source != image.SourceGiven:
		b.WriteString("Nobody who is trusted has signed it: it is undamaged, but anyone may have made it.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
