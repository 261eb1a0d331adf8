package kernel

import (
	"errors"
	"strings"
	"testing"
)

func TestNodeName(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want string // no want: refused
	}{
		{"data", "data"},
		{"luks-6c8b2bd8-1f2e", "luks-6c8b2bd8-1f2e"},
		{"a#b+c-d.e:f=g@h_i9Z", "a#b+c-d.e:f=g@h_i9Z"},
		{"my disk", `my\x20disk`},
		{"grün", `gr\xc3\xbcn`},
		{`back\slash`, `back\x5cslash`},
		{"tab\tnew\n", `tab\x09new\x0a`},
		{`my\x20disk`, `my\x20disk`},
		{`my\x20disk two`, ""},
		{`my disk\x20two`, ""},
		{`twice\x5cx20`, ""},
		{`cut\x2`, ""},
		{"", ""},
		{".", ""},
		{"..", ""},
		{"...", "..."},
		{"control", ""},
		{"a/b", ""},
		{"a\x00b", ""},
		{strings.Repeat("n", 127), strings.Repeat("n", 127)},
		{strings.Repeat("n", 128), ""},
		{strings.Repeat(" ", 31), strings.Repeat(`\x20`, 31)},
		{strings.Repeat(" ", 32), ""},
	}
	for _, tt := range tests {
		got, err := NodeName(tt.name)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("NodeName(%q) = %q, %v; want %q", tt.name, got, err, tt.want)
		}
		if err != nil && !errors.Is(err, ErrBadName) {
			t.Errorf("NodeName(%q): %v does not wrap ErrBadName", tt.name, err)
		}
	}
}

func TestUnmangle(t *testing.T) {
	t.Parallel()
	for mangled, want := range map[string]string{
		`my\x20disk`: "my disk", `gr\xC3\xbcn`: "grün", `a\b`: `a\b`, `\x`: `\x`, `\x2`: `\x2`, `\xzz0`: `\xzz0`,
	} {
		if got := unmangle(mangled); got != want {
			t.Errorf("unmangle(%q) = %q, want %q", mangled, got, want)
		}
	}
}

func TestMappingUUID(t *testing.T) {
	t.Parallel()
	long := "CRYPT-LUKS2-" + strings.Repeat("0", 32) + "-" + strings.Repeat("n", 127)
	got, err := mappingUUID(long)
	if err != nil || got != long[:128] {
		t.Errorf("long UUID gave %q, %v", got, err)
	}
	if got, err := mappingUUID("CRYPT-LUKS2-00-my disk"); err != nil || got != `CRYPT-LUKS2-00-my\x20disk` {
		t.Errorf("UUID with a blank gave %q, %v", got, err)
	}
	if _, err := mappingUUID(strings.Repeat(" ", 100)); !errors.Is(err, ErrBadName) {
		t.Errorf("UUID that grows too long gave %v", err)
	}
}

func FuzzNodeName(f *testing.F) {
	for _, s := range []string{"data", "my disk", `my\x20disk`, `\`, `\x`, `00\x0 0`, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		node, err := NodeName(name)
		if err != nil {
			return
		}
		if len(node) > maxName || strings.ContainsAny(node, "/ \x00\n") {
			t.Errorf("NodeName(%q) = %q", name, node)
		}
		again, err := NodeName(node)
		if err != nil || again != node {
			t.Errorf("NodeName(%q) = %q, and that gives %q, %v", name, node, again, err)
		}
		if !strings.Contains(name, `\x`) && unmangle(node) != name {
			t.Errorf("%q came back as %q", name, unmangle(node))
		}
	})
}
