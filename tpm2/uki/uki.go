// Package uki predicts what a unified kernel image measures into PCR 11.
//
// Such an image is one EFI program: a boot stub, and beside it, as sections of
// the file, a kernel with all that it boots with. Before the kernel starts, the
// stub measures these sections into PCR 11, and later the system adds a word for
// each phase of the boot that it reaches. All of it is in the file, so the values
// are known before the image has ever run.
//
// Formats: Microsoft's PE specification for the file, the UAPI group's
// specification of unified kernel images for the sections; what is measured, and
// in which order, is what systemd-stub measures.
//
// The package reads an image. It does not check who signed it, and signs nothing.
package uki

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
)

// What an image can be refused for, beside being damaged.
var (
	ErrNotUKI      = errors.New("not a unified kernel image")
	ErrUnsupported = errors.New("can't be predicted")
)

// Section is a part of an image under its name, "linux" or "cmdline", without
// the dot that the image has before it.
type Section struct {
	Name    string
	Content io.Reader
}

// kind is what is known of a section's name.
type kind struct {
	name  string
	since int // the first systemd-stub that measures it; 0 for all
}

// kinds lists the sections that are measured, in this order.
func kinds() []kind {
	return []kind{{"linux", 0}, {"osrel", 0}, {"cmdline", 0}, {"initrd", 0}, {"ucode", 256}, {"splash", 0}, {"dtb", 0},
		{"uname", 254}, {"sbat", 254}, {"pcrpkey", 0}, {"profile", 257}, {"dtbauto", 257}, {"hwids", 257}}
}

// Names returns the names of the sections that are measured, in their order.
func Names() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// Image is a unified kernel image in which a profile is chosen.
type Image struct {
	r        io.ReaderAt
	closer   io.Closer
	sections map[string]header
	stub     int
}

// Open opens an image. See [Parse]. The caller closes it.
func Open(path string, profile int) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	img, err := openFile(f, profile)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	img.closer = f
	return img, nil
}

func openFile(f *os.File, profile int) (*Image, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: no regular file", ErrNotUKI)
	}
	return Parse(f, info.Size(), profile)
}

// Parse reads the table of sections of an image of so many bytes. Profile 0 is
// what the image boots if nothing else is asked for, and all there is in an image
// without profiles. The error wraps [ErrNotUKI] for what is none, and
// [ErrUnsupported] if what gets measured depends on the machine.
func Parse(r io.ReaderAt, size int64, profile int) (*Image, error) {
	f := &file{r: r, size: size}
	table, err := f.headers()
	if err != nil {
		return nil, err
	}
	if err := checkPlaces(table); err != nil {
		return nil, err
	}
	img := &Image{r: r, stub: stubVersion(r, table)}
	if img.sections, err = choose(table, profile); err != nil {
		return nil, err
	}
	if _, ok := img.sections["linux"]; !ok {
		return nil, fmt.Errorf("%w: no .linux section", ErrNotUKI)
	}
	if err := img.predictable(); err != nil {
		return nil, err
	}
	return img, nil
}

// predictable refuses what depends on more than the image. What a stub before 257
// makes of profiles depends on how sections are ordered.
func (i *Image) predictable() error {
	for _, name := range []string{"dtbauto", "efifw"} {
		if _, ok := i.sections[name]; ok {
			return fmt.Errorf("%w: it depends on the machine which .%s section is used", ErrUnsupported, name)
		}
	}
	if _, ok := i.sections["profile"]; ok && i.stub != 0 && i.stub < 257 {
		return fmt.Errorf("%w: a stub of version %d does not know profiles", ErrUnsupported, i.stub)
	}
	return nil
}

// Close closes the file if [Open] has opened it.
func (i *Image) Close() error {
	if i.closer == nil {
		return nil
	}
	return i.closer.Close()
}

// Stub returns the version of systemd-stub in the image, 0 if it has another stub
// or does not say.
func (i *Image) Stub() int { return i.stub }

// Sections returns what the image's stub measures. Each call returns new readers.
func (i *Image) Sections() []Section {
	var list []Section
	for _, k := range kinds() {
		h, ok := i.sections[k.name]
		if ok && (i.stub == 0 || i.stub >= k.since) {
			list = append(list, Section{k.name, h.content(i.r)})
		}
	}
	return list
}

// Section returns one section of the image, measured or not, and nil if there is
// none of that name.
func (i *Image) Section(name string) io.Reader {
	h, ok := i.sections[name]
	if !ok {
		return nil
	}
	return h.content(i.r)
}

// choose returns the sections of a profile by name. The table begins with what
// all profiles share; each .profile section begins one profile, whose sections
// take the place of the shared ones.
func choose(table []header, profile int) (map[string]header, error) {
	chosen, own := map[string]header{}, map[string]header{}
	current := -1
	for _, h := range table {
		if h.name == "profile" {
			current++
		}
		into := chosen
		if current >= 0 {
			into = own
			if current != profile {
				continue
			}
		}
		if _, twice := into[h.name]; twice && h.name != "dtbauto" && h.name != "efifw" {
			return nil, fmt.Errorf("two .%s sections", h.name)
		}
		into[h.name] = h
	}
	if profile < 0 || profile > max(current, 0) {
		return nil, fmt.Errorf("no profile %d, the image has %d", profile, current+1)
	}
	for name, h := range own {
		chosen[name] = h
	}
	return chosen, nil
}

var stubName = regexp.MustCompile(`^#### LoaderInfo: systemd-stub ([0-9]{3,4})\b`)

// stubVersion looks into the section in which systemd-stub says which it is.
func stubVersion(r io.ReaderAt, table []header) int {
	for _, h := range table {
		if h.name != "sdmagic" {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(h.content(r), 128))
		if err != nil {
			return 0
		}
		if m := stubName.FindSubmatch(bytes.TrimSpace(text)); m != nil {
			n, _ := strconv.Atoi(string(m[1])) // digits, as the pattern says
			return n
		}
	}
	return 0
}
