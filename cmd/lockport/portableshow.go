package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/portable"
)

func (a *app) portableListCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "list [OPTIONS]",
		Short: "List the images that are found by name",
		Args:  arguments(0, 0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.portableList(cmd.Context(), o) },
	}
}

func (a *app) portableList(ctx context.Context, o *portableOptions) error {
	s, err := a.service(o)
	if err != nil {
		return err
	}
	list, err := s.List(ctx)
	if err != nil {
		return err
	}
	if o.json {
		return printImagesJSON(a.out, list)
	}
	return printImages(a.out, list, o.noLegend)
}

func printImages(w io.Writer, list []portable.Status, noLegend bool) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	if !noLegend && len(list) > 0 {
		fmt.Fprintln(t, "NAME\tTYPE\tRO\tCRTIME\tMTIME\tUSAGE\tSTATE")
	}
	for _, s := range list {
		ro := "no"
		if s.ReadOnly {
			ro = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Type, ro, timestamp(s.Created), timestamp(s.Modified), usageText(s.Usage), s.State)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	switch {
	case noLegend:
	case len(list) == 0:
		b.WriteString("No images.\n")
	default:
		fmt.Fprintf(&b, "\n%d images listed.\n", len(list))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func timestamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("Mon 2006-01-02 15:04:05 MST")
}

// usageText is a size with one digit behind the point, as systemd writes it: an
// unknown one is blank.
func usageText(n uint64) string {
	if n == 0 {
		return " " // as wide as the original's where there is no head
	}
	const units = "BKMGTPE"
	rest, i := uint64(0), 0
	for ; n >= 1024 && i < len(units)-1; i++ {
		n, rest = n/1024, n%1024
	}
	if tenth := rest * 10 / 1024; tenth > 0 {
		return fmt.Sprintf("%d.%d%c", n, tenth, units[i])
	}
	return fmt.Sprintf("%d%c", n, units[i])
}

type imageJSON struct {
	Name     string     `json:"name"`
	Path     string     `json:"path"`
	Type     string     `json:"type"`
	ReadOnly bool       `json:"read_only"`
	Created  *time.Time `json:"created,omitempty"`
	Modified *time.Time `json:"modified,omitempty"`
	Usage    uint64     `json:"usage,omitempty"`
	State    string     `json:"state"`
}

func printImagesJSON(w io.Writer, list []portable.Status) error {
	out := []imageJSON{}
	for _, s := range list {
		j := imageJSON{Name: s.Name, Path: s.Path, Type: string(s.Type), ReadOnly: s.ReadOnly, Usage: s.Usage, State: string(s.State)}
		if !s.Created.IsZero() {
			j.Created = &s.Created
		}
		if !s.Modified.IsZero() {
			j.Modified = &s.Modified
		}
		out = append(out, j)
	}
	return printPretty(w, out)
}

func (a *app) isAttachedCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "is-attached [OPTIONS] IMAGE",
		Short: "Print whether an image is attached",
		Long: `Prints how far units of an image are in use: detached, attached, enabled or
running, or one of the last three with -runtime behind it if they are attached
until the next boot. With --extension, whether they are with exactly these
extensions. The exit status is 0 in all cases, as it is with the original.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.isAttached(cmd.Context(), args, o) },
	}
}

func (a *app) isAttached(ctx context.Context, args []string, o *portableOptions) error {
	s, err := a.service(o)
	if err != nil {
		return err
	}
	refs, err := a.refs(o, args)
	if err != nil {
		return err
	}
	state, err := s.State(ctx, refs[0])
	if err != nil || a.quiet {
		return err
	}
	_, err = fmt.Fprintln(a.out, state)
	return err
}
