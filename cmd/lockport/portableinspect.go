package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/portable"
)

func (a *app) portableInspectCommand(o *portableOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect [OPTIONS] IMAGE [PREFIX…]",
		Short: "Show what an image says of itself, and its units",
		Long: `Shows what an image says of itself, and the units that attach would take. With
"-" for PREFIX, that is all units.`,
		Args: arguments(1, 1<<16),
		RunE: func(cmd *cobra.Command, args []string) error { return a.portableInspect(cmd.Context(), args, o) },
	}
}

func (a *app) portableInspect(ctx context.Context, args []string, o *portableOptions) error {
	s, err := a.service(o)
	if err != nil {
		return err
	}
	refs, err := a.refs(o, args)
	if err != nil {
		return err
	}
	m, err := s.Inspect(ctx, refs[0])
	if err != nil {
		return err
	}
	a.sayPrefixes(m.Prefixes)
	switch {
	case o.json:
		return printPretty(a.out, metadataJSON(m))
	case o.cat:
		return catMetadata(a.out, m)
	}
	return printMetadata(a.out, m)
}

// sayPrefixes tells which units are meant.
func (a *app) sayPrefixes(list []string) {
	if len(list) == 0 {
		return
	}
	word := "prefix"
	if len(list) > 1 {
		word = "prefixes"
	}
	a.say("(Matching unit files with %s '%s'.)", word, strings.Join(list, "', '"))
}

func printMetadata(w io.Writer, m *portable.Metadata) error {
	var b strings.Builder
	entry := func(title, value string) { fmt.Fprintf(&b, "%s:\n\t%s\n", title, or(value, "n/a")) }
	entry("Image", m.Image.Path)
	entry("Portable Service", m.Release["PORTABLE_PRETTY_NAME"])
	entry("Operating System", m.Release["PRETTY_NAME"])
	for _, e := range m.Extensions {
		entry("Extension", e.Image.Path)
		printExtension(&b, e.Release)
	}
	b.WriteString("Unit files:\n")
	for _, u := range m.Units {
		fmt.Fprintf(&b, "\t%s\n", u.Name)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printExtension prints what an extension says of itself, in the form of the original.
func printExtension(w io.Writer, r portable.Release) {
	first := func(keys ...string) string {
		for _, k := range keys {
			if r[k] != "" {
				return r[k]
			}
		}
		return "n/a"
	}
	image := "ID: %s Version: %s"
	if pretty := first("SYSEXT_PRETTY_NAME", "CONFEXT_PRETTY_NAME"); pretty != "n/a" {
		image = strings.ReplaceAll(pretty, "%", "%%") + " (%s %s)"
	}
	for _, line := range [][2]string{
		{"Extension Scope", first("SYSEXT_SCOPE", "CONFEXT_SCOPE")},
		{"Extension Compatibility Level", first("SYSEXT_LEVEL", "CONFEXT_LEVEL")},
		{"Extension Compatibility OS", first("ID")},
		{"Extension Compatibility OS Version", first("VERSION_ID")},
		{"Portable Service", first("PORTABLE_PRETTY_NAME")},
		{"Portable Prefixes", first("PORTABLE_PREFIXES")},
		{"Extension Image", fmt.Sprintf(image,
			first("SYSEXT_ID", "SYSEXT_IMAGE_ID", "CONFEXT_ID", "CONFEXT_IMAGE_ID"),
			first("SYSEXT_VERSION_ID", "SYSEXT_IMAGE_VERSION", "SYSEXT_BUILD_ID", "CONFEXT_VERSION_ID", "CONFEXT_IMAGE_VERSION", "CONFEXT_BUILD_ID"))},
	} {
		fmt.Fprintf(w, "\t%s:\n\t\t%s\n", line[0], line[1])
	}
}

// catMetadata prints the files as they are, so that they can be told apart.
func catMetadata(w io.Writer, m *portable.Metadata) error {
	var b strings.Builder
	section := func(title string, text []byte) {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "-- %s --\n%s", title, text)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	section("OS Release:", m.ReleaseText)
	for _, e := range m.Extensions {
		section("Extension Release: "+e.Image.Path, e.ReleaseText)
	}
	for _, u := range m.Units {
		section("Unit file: "+u.Name, u.Content)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type inspectJSON struct {
	Image      string             `json:"image"`
	Type       string             `json:"type"`
	Release    portable.Release   `json:"os_release"`
	Extensions []inspectExtension `json:"extensions"`
	Prefixes   []string           `json:"prefixes"`
	Units      []inspectUnit      `json:"units"`
}

type inspectExtension struct {
	Image   string           `json:"image"`
	Release portable.Release `json:"extension_release"`
}

type inspectUnit struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

func metadataJSON(m *portable.Metadata) inspectJSON {
	j := inspectJSON{m.Image.Path, string(m.Image.Type), m.Release, []inspectExtension{}, append([]string{}, m.Prefixes...), []inspectUnit{}}
	for _, e := range m.Extensions {
		j.Extensions = append(j.Extensions, inspectExtension{e.Image.Path, e.Release})
	}
	for _, u := range m.Units {
		j.Units = append(j.Units, inspectUnit{u.Name, u.Path})
	}
	return j
}
