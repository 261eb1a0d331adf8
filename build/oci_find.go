package build

import (
	"fmt"
	"slices"
	"strings"
)

// ociFinder goes through the indexes of a layout.
type ociFinder struct {
	i       *ociImporter
	store   ociStore
	choice  ociChoice
	visited int
	found   []ociFound // that match
	others  []string   // what else there is, for people
}

type ociFound struct {
	descriptor ociDescriptor
	platform   ociPlatform
	name       string
}

// maxNested is how many indexes may be in each other.
const maxNested = 8

// Annotations with the name of an image: image-spec, annotations.md, and that of
// containerd, where the former has only what is behind the colon.
var ociNames = []string{"io.containerd.image.name", "org.opencontainers.image.ref.name"}

// top looks at the images of a layout. Of one for several platforms, the first
// that matches is taken, or rather the first for any processor.
func (f *ociFinder) top(list []ociDescriptor) error {
	for _, d := range list {
		name := d.Annotations[ociNames[0]]
		if name == "" {
			name = d.Annotations[ociNames[1]]
		}
		if f.choice.name != "" && f.choice.name != d.Annotations[ociNames[0]] && f.choice.name != d.Annotations[ociNames[1]] {
			f.other(name, ociPlatform{})
			continue
		}
		all, err := f.below(d, 0)
		if err != nil {
			return err
		}
		f.take(name, all)
	}
	return nil
}

func (f *ociFinder) take(name string, all []ociFound) {
	match := slices.DeleteFunc(slices.Clone(all), func(one ociFound) bool { return !f.choice.matches(one.platform) })
	if len(match) == 0 {
		for _, one := range all {
			f.other(name, one.platform)
		}
		return
	}
	best := match[max(0, slices.IndexFunc(match, func(one ociFound) bool { return one.platform.basic() }))]
	best.name = name
	same := func(one ociFound) bool { return one.descriptor.Digest == best.descriptor.Digest }
	if !slices.ContainsFunc(f.found, same) {
		f.found = append(f.found, best)
	}
}

// below returns the manifests that a descriptor leads to.
func (f *ociFinder) below(d ociDescriptor, depth int) (list []ociFound, err error) {
	if f.visited++; f.visited > f.i.limits.visited || depth > maxNested {
		return nil, refuse("too many images, or indexes in indexes")
	}
	switch {
	case slices.Contains(ociManifests, d.MediaType) && d.Platform != nil:
		return []ociFound{{descriptor: d, platform: *d.Platform}}, nil
	case slices.Contains(ociManifests, d.MediaType):
		_, config, err := f.i.manifest(f.store, d)
		if err != nil || config == nil {
			return nil, err
		}
		return []ociFound{{descriptor: d, platform: config.ociPlatform}}, nil
	case !slices.Contains(ociIndexes, d.MediaType):
		return nil, nil // to be ignored: image-index.md
	}
	var index ociDocument
	err = f.i.decodeVerified(f.store, d, &index)
	if err == nil {
		err = index.check(d)
	}
	if err != nil {
		return nil, fmt.Errorf("an index: %w", err)
	}
	for _, m := range index.Manifests {
		more, err := f.below(m, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

func (f *ociFinder) other(name string, p ociPlatform) {
	if name == "" && p == (ociPlatform{}) {
		name = "one without a name"
	}
	f.others = append(f.others, describeImage(name, p))
}

func describeImage(name string, p ociPlatform) string {
	text := strings.TrimSpace(name + " " + p.String())
	return fmt.Sprintf("%.200q", text)
}

// one returns the only image that was found.
func (f *ociFinder) one() (ociFound, error) {
	names := make([]string, 0, len(f.found))
	for _, one := range f.found {
		names = append(names, describeImage(one.name, one.platform))
	}
	return theOne(f.choice, f.found, names, f.others)
}

// theOne tells what there is unless there is exactly one.
func theOne[T any](c ociChoice, found []T, names, others []string) (one T, err error) {
	wanted := "for linux/" + c.architecture
	if c.name != "" {
		wanted = fmt.Sprintf("called %q %s", c.name, wanted)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return one, fmt.Errorf("%w: there are several images %s, of which one has to be named: %s", ErrSpec, wanted, enumerate(names))
	case len(others) > 0:
		return one, fmt.Errorf("%w: there is no image %s, but %s", ErrSpec, wanted, enumerate(others))
	}
	return one, fmt.Errorf("%w: there is no image %s, nor any other", ErrSpec, wanted)
}

// enumerate lists what people can still read.
func enumerate(list []string) string {
	const most = 20
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}
