package uki_test

import (
	"bytes"
	"debug/pe"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/tpm2/uki"
	"github.com/lockport/lockport/tpm2/uki/ukitest"
)

// program finds a program of another project, or skips; where CI is set it must
// be there.
func program(t *testing.T, candidates ...string) string {
	t.Helper()
	for _, c := range candidates {
		if path, err := exec.LookPath(c); err == nil {
			return path
		}
	}
	missing(t, candidates[0])
	return ""
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is needed", what)
	}
	t.Skipf("%s is not installed", what)
}

// output runs a program.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, stderr.Bytes())
	}
	return string(out)
}

// measured is what the original calculates, and which sections it knows.
func measureProgram(t *testing.T) (path string, known []string) {
	t.Helper()
	path = program(t, "/usr/lib/systemd/systemd-measure")
	help := output(t, path, "--help")
	for _, name := range uki.Names() {
		if strings.Contains(help, " --"+name+"=") {
			known = append(known, name)
		}
	}
	if len(known) < 7 {
		t.Fatalf("the original knows only %v", known)
	}
	return path, known
}

// lines is what the original prints for a measurement.
func lines(t *testing.T, m *uki.Measurement, banks, phases []string) string {
	t.Helper()
	var b strings.Builder
	for _, phase := range phases {
		for _, bank := range banks {
			v, err := m.PCR11(bank, uki.ParsePhase(phase))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%d:%s=%x\n", uki.PCR, bank, v)
		}
	}
	return b.String()
}

// TestPeerCalculate compares random sections, apart and in an image, with what
// systemd-measure calculates.
func TestPeerCalculate(t *testing.T) {
	t.Parallel()
	measure, known := measureProgram(t)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 20 {
		dir := t.TempDir()
		args, phases := []string{"calculate"}, []string{"", "enter-initrd", "a:b:c"}[:1+random.IntN(3)]
		var parts []uki.Section
		var image []ukitest.Section
		for _, i := range random.Perm(len(known)) {
			name := known[i]
			if name != "linux" && random.IntN(3) == 0 {
				continue
			}
			content := make([]byte, random.IntN(4)*random.IntN(300_000))
			for i := range content {
				content[i] = byte(random.Uint32())
			}
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--"+name+"="+path)
			parts = append(parts, uki.Section{Name: name, Content: bytes.NewReader(content)})
			image = append(image, ukitest.Section{Name: "." + name, Content: string(content)})
		}
		for _, p := range phases {
			args = append(args, "--phase="+p)
		}
		slices.Sort(phases)
		want := output(t, measure, args...)
		m, err := uki.Measure(t.Context(), parts)
		if err != nil {
			t.Fatal(err)
		}
		if got := lines(t, m, uki.Banks(), phases); got != want {
			t.Errorf("seed %d, round %d: %v\n%s, not\n%s", seed, round, args, got, want)
		}
		if slices.ContainsFunc(image, func(s ukitest.Section) bool { return s.Name == ".dtbauto" || s.Name == ".profile" }) {
			continue // which of these count is not for the order of a table to say
		}
		if m, err = uki.Measure(t.Context(), parse(t, ukitest.Build(image...), 0).Sections()); err != nil {
			t.Fatal(err)
		}
		if got := lines(t, m, uki.Banks(), phases); got != want {
			t.Errorf("seed %d, round %d: in an image: %v\n%s, not\n%s", seed, round, args, got, want)
		}
	}
}

// TestPeerImage has a real stub, to which objcopy adds sections. What objcopy and
// the standard library find in it is what we measure.
func TestPeerImage(t *testing.T) {
	t.Parallel()
	measure, known := measureProgram(t)
	objcopy := program(t, "objcopy")
	stubs, err := filepath.Glob("/usr/lib/systemd/boot/efi/linux*.efi.stub")
	if err != nil || len(stubs) == 0 {
		missing(t, "systemd-boot-efi")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "uki.efi")
	args := []string{}
	address := endOf(t, stubs[0])
	for i, name := range []string{"osrel", "cmdline", "splash", "initrd", "linux"} {
		content := bytes.Repeat([]byte(name), 1+i*20_000)
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--add-section", "."+name+"="+file, "--change-section-vma", fmt.Sprintf(".%s=%#x", name, address))
		address = (address + uint64(len(content)) + 0xfff) &^ 0xfff
	}
	output(t, objcopy, append(args, stubs[0], path)...)
	img, err := uki.Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if img.Stub() < 252 {
		t.Errorf("stub of version %d", img.Stub())
	}
	call := []string{"calculate"}
	for _, s := range img.Sections() {
		if !slices.Contains(known, s.Name) {
			t.Skipf("the original does not know .%s, which its stub measures", s.Name)
		}
		file := filepath.Join(dir, s.Name+".out")
		output(t, objcopy, "-O", "binary", "--only-section=."+s.Name, path, file)
		call = append(call, "--"+s.Name+"="+file)
	}
	m, err := uki.Measure(t.Context(), img.Sections(), "sha256")
	if err != nil {
		t.Fatal(err)
	}
	want := output(t, measure, append(call, "--bank=sha256", "--phase=enter-initrd")...)
	if got := lines(t, m, []string{"sha256"}, []string{"enter-initrd"}); got != want || len(call) < 6 {
		t.Errorf("%v: %s, not %s", call, got, want)
	}
}

// endOf returns the first address behind a program's sections.
func endOf(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := pe.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var end uint64
	base := uint64(0)
	if h, ok := f.OptionalHeader.(*pe.OptionalHeader64); ok {
		base = h.ImageBase
	}
	for _, s := range f.Sections {
		end = max(end, uint64(s.VirtualAddress)+uint64(s.VirtualSize))
	}
	return (base + end + 0xffff) &^ 0xffff
}

// TestPeerStubs reads the stubs and loaders that are installed: none of them is a
// kernel image, all of them are EFI programs.
func TestPeerStubs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("/usr/lib/systemd/boot/efi/*.efi*")
	if err != nil || len(files) == 0 {
		missing(t, "systemd-boot-efi")
	}
	for _, path := range files {
		_, err := uki.Open(path, 0)
		if !errors.Is(err, uki.ErrNotUKI) || !strings.Contains(err.Error(), "no .linux section") || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
