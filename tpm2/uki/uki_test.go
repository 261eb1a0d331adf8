package uki_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockport/lockport/tpm2/uki"
	"github.com/lockport/lockport/tpm2/uki/ukitest"
)

func parse(t *testing.T, image []byte, profile int) *uki.Image {
	t.Helper()
	img, err := uki.Parse(bytes.NewReader(image), int64(len(image)), profile)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// contents reads what an image measures, as "name=content" in order.
func contents(t *testing.T, img *uki.Image) string {
	t.Helper()
	var list []string
	for _, s := range img.Sections() {
		b, err := io.ReadAll(s.Content)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s.Name+"="+string(b))
	}
	return strings.Join(list, " ")
}

func pcr11(t *testing.T, sections []uki.Section, bank, phase string) string {
	t.Helper()
	m, err := uki.Measure(t.Context(), sections, bank)
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.PCR11(bank, uki.ParsePhase(phase))
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(v)
}

// sections makes sections of texts: "linux=KERNEL".
func sections(texts ...string) []uki.Section {
	var list []uki.Section
	for _, text := range texts {
		name, content, _ := strings.Cut(text, "=")
		list = append(list, uki.Section{Name: name, Content: strings.NewReader(content)})
	}
	return list
}

// TestVector is the image whose policies systemd-measure has signed: its policy is
// that of a TPM in which PCR 11 was extended step by step.
func TestVector(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../testdata/vectors/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Sections map[string]string `json:"uki_sections"`
		Policies map[string]string `json:"policy_digests"`
		PCRs     map[string]map[string]struct{ SHA256 string }
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	phase := v.Sections["phase"]
	var parts []string
	var pe []ukitest.Section
	for _, name := range []string{"initrd", "cmdline", "linux", "osrel"} {
		parts = append(parts, name+"="+v.Sections[name])
		pe = append(pe, ukitest.Section{Name: "." + name, Content: v.Sections[name]})
	}
	got := pcr11(t, sections(parts...), "sha256", phase)
	if fromImage := pcr11(t, parse(t, ukitest.Build(pe...), 0).Sections(), "sha256", phase); got != fromImage {
		t.Errorf("%s apart, %s in an image", got, fromImage)
	}
	if want := v.PCRs["B"]["11"].SHA256; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// TestSections covers what counts as a section's content, and the kinds of files.
func TestSections(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("q", 512) // as much as the file keeps in one block
	parts := []ukitest.Section{{Name: ".text", Content: "code"}, {Name: ".osrel", Content: "ID=x\n"}, {Name: "extra", Content: "e"},
		{Name: ".splash", Size: 0}, {Name: ".cmdline", Content: full, Size: 515}, {Name: ".pcrsig", Content: "{}"},
		{Name: ".linux", Content: "KERNEL", Size: 3}, {Name: ".pcrpkey", Content: "12345678"}}
	for _, k := range []ukitest.Kind{{}, {Machine: 0xaa64}, {Machine: 0x14c, PE32: true}} {
		img := parse(t, k.Build(parts...), 0)
		if got, want := contents(t, img), "linux=KER osrel=ID=x\n cmdline="+full+"\x00\x00\x00 splash= pcrpkey=12345678"; got != want {
			t.Errorf("%+v: %q, not %q", k, got, want)
		}
		if again := contents(t, img); again != contents(t, img) {
			t.Errorf("a second look finds %q", again)
		}
		if b, err := io.ReadAll(img.Section("pcrsig")); err != nil || string(b) != "{}" || img.Section("sbat") != nil {
			t.Errorf("%q, %v", b, err)
		}
		// An empty section counts as none.
		want := pcr11(t, sections("linux=KER", "osrel=ID=x\n", "cmdline="+full+"\x00\x00\x00", "pcrpkey=12345678"), "sha512", "a:b")
		if got := pcr11(t, img.Sections(), "sha512", "::a:b:"); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// TestStub has images whose stub does not measure all that later ones do.
func TestStub(t *testing.T) {
	t.Parallel()
	parts := []ukitest.Section{{Name: ".linux", Content: "L"}, {Name: ".uname", Content: "U"}, {Name: ".sbat", Content: "S"},
		{Name: ".ucode", Content: "C"}, {Name: ".hwids", Content: "H"}}
	for _, c := range []struct {
		magic, want string
		version     int
	}{
		{"", "linux=L ucode=C uname=U sbat=S hwids=H", 0},
		{"#### LoaderInfo: other-stub 5 ####", "linux=L ucode=C uname=U sbat=S hwids=H", 0},
		{"#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####\x00", "linux=L", 252},
		{"#### LoaderInfo: systemd-stub 254 ####", "linux=L uname=U sbat=S", 254},
		{"#### LoaderInfo: systemd-stub 256~rc1 ####", "linux=L ucode=C uname=U sbat=S", 256},
		{"#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####", "linux=L ucode=C uname=U sbat=S hwids=H", 257},
	} {
		img := parse(t, ukitest.Build(append([]ukitest.Section{{Name: ".sdmagic", Content: c.magic}}, parts...)...), 0)
		if got := contents(t, img); got != c.want || img.Stub() != c.version {
			t.Errorf("%q, version %d: %s", c.magic, img.Stub(), got)
		}
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	image := ukitest.Build([]ukitest.Section{{Name: ".linux", Content: "L"}, {Name: ".cmdline", Content: "base"},
		{Name: ".profile", Content: "ID=main"}, {Name: ".pcrsig", Content: "0"},
		{Name: ".profile", Content: "ID=reset"}, {Name: ".cmdline", Content: "reset"}, {Name: ".osrel", Content: "O"},
		{Name: ".profile", Content: "ID=last"}, {Name: ".linux", Content: "other"}}...)
	for profile, want := range []string{"linux=L cmdline=base profile=ID=main",
		"linux=L osrel=O cmdline=reset profile=ID=reset", "linux=other cmdline=base profile=ID=last"} {
		if got := contents(t, parse(t, image, profile)); got != want {
			t.Errorf("%d: %s", profile, got)
		}
	}
	for _, profile := range []int{-1, 3} {
		if _, err := uki.Parse(bytes.NewReader(image), int64(len(image)), profile); err == nil || !strings.Contains(err.Error(), "the image has 3") {
			t.Errorf("%d: %v", profile, err)
		}
	}
	if _, err := uki.Parse(bytes.NewReader(ukitest.Build(ukitest.Section{Name: ".linux", Content: "L"})), 1<<12, 1); err == nil {
		t.Error("a profile of an image without")
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	linux := ukitest.Section{Name: ".linux", Content: "L"}
	for _, more := range [][]ukitest.Section{
		{{Name: ".dtbauto", Content: "a"}, {Name: ".dtbauto", Content: "b"}},
		{{Name: ".efifw", Content: "a"}},
		{{Name: ".sdmagic", Content: "#### LoaderInfo: systemd-stub 256 ####"}, {Name: ".profile", Content: "ID=x"}},
	} {
		image := ukitest.Build(append(more, linux)...)
		if _, err := uki.Parse(bytes.NewReader(image), int64(len(image)), 0); !errors.Is(err, uki.ErrUnsupported) {
			t.Errorf("%v", err)
		}
	}
}

func TestMeasureRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sections []uki.Section
		bank     string
		want     string
	}{
		{sections("linux=a", "linux=b"), "sha256", "two .linux sections"},
		{sections("linux=a", "pcrsig=b"), "sha256", "no section .pcrsig is measured"},
		{sections("linux=a"), "md5", `unknown PCR bank "md5"`},
		{[]uki.Section{{Name: "linux", Content: io.MultiReader(strings.NewReader("a"), failing{})}}, "sha1", "section .linux: broken"},
	} {
		if _, err := uki.Measure(t.Context(), c.sections, c.bank); err == nil || err.Error() != c.want {
			t.Errorf("%v, not %s", err, c.want)
		}
	}
	m, err := uki.Measure(t.Context(), sections("linux=a"), "sha1")
	if err != nil {
		t.Fatal(err)
	}
	for _, bank := range []string{"sha256", "md5"} {
		if v, err := m.PCR11(bank, nil); err == nil || v != nil {
			t.Errorf("%s: %x", bank, v)
		}
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestPhases(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", ":": "", "a": "a", ":a::b:": "a:b", " a": " a"} {
		if got := uki.ParsePhase(text).String(); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
	var list []string
	for _, p := range uki.DefaultPhases() {
		list = append(list, p.String())
	}
	if got := strings.Join(list, " "); got != "enter-initrd enter-initrd:leave-initrd enter-initrd:leave-initrd:sysinit enter-initrd:leave-initrd:sysinit:ready" {
		t.Error(got)
	}
	// The phase before the first word is what the stub has measured.
	sum := func(parts ...[]byte) []byte { s := sha256.Sum256(bytes.Join(parts, nil)); return s[:] }
	want := sum(sum(make([]byte, 32), sum([]byte(".linux\x00"))), sum([]byte("x")))
	if got := pcr11(t, sections("linux=x"), "sha256", ""); got != hex.EncodeToString(want) {
		t.Error(got)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := uki.Open(filepath.Join(dir, "none"), 0); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := uki.Open(dir, 0); !errors.Is(err, uki.ErrNotUKI) {
		t.Error(err)
	}
	path := filepath.Join(dir, "uki.efi")
	image := ukitest.Build(ukitest.Section{Name: ".linux", Content: strings.Repeat("L", 5000)})
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := uki.Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	// The file shrinks between the reading of the table and that of the sections.
	if err := os.Truncate(path, int64(len(image))-1000); err != nil {
		t.Fatal(err)
	}
	if _, err := uki.Measure(t.Context(), img.Sections()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}
