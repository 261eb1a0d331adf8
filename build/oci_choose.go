package build

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ociChoice says which image is meant.
type ociChoice struct {
	name         string // "" for any
	architecture string
}

func (c ociChoice) matches(p ociPlatform) bool {
	return p.OS == "linux" && p.Architecture == c.architecture
}

// ociPlatform is what an image is for: image-spec, image-index.md.
type ociPlatform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant"`
}

func (p ociPlatform) String() string { return path.Join(p.OS, p.Architecture, p.Variant) }

// basic tells if any processor of the architecture will do.
func (p ociPlatform) basic() bool {
	return p.Variant == "" || p.Architecture == "amd64" && p.Variant == "v1" || p.Architecture == "arm64" && p.Variant == "v8"
}

// ociDescriptor refers to a content: image-spec, descriptor.md.
type ociDescriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *ociPlatform      `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

// ociDocument is an index or a manifest: image-spec, image-index.md, manifest.md.
type ociDocument struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Manifests     []ociDescriptor `json:"manifests"`
	Config        *ociDescriptor  `json:"config"`
	Layers        []ociDescriptor `json:"layers"`
}

// ociConfig is the configuration of an image: image-spec, config.md.
type ociConfig struct {
	ociPlatform
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// ociLayer is a layer of the image that was chosen.
type ociLayer struct {
	name string         // in the store
	blob *ociDescriptor // nil if there is none
	diff ociDigest      // of the archive in it, unpacked
}

// Kinds of what descriptors refer to. Docker's are those of its image manifest
// version 2, schema 2.
var (
	ociIndexes   = []string{"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
	ociManifests = []string{"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
	ociConfigs   = []string{"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
	ociLayers    = []string{
		"application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar.zstd",
	}
)

// foreign tells if a layer is of those that aren't given away with the image.
func foreign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.")
}

// choose finds the image that is meant, and returns its layers. What is both a
// layout and an archive of docker's, as newer ones are, is read as a layout.
func (i *ociImporter) choose(s ociStore, c ociChoice) ([]ociLayer, error) {
	var header struct {
		Version string `json:"imageLayoutVersion"`
	}
	err := i.decode(s, "oci-layout", &header)
	if errors.Is(err, fs.ErrNotExist) {
		return i.chooseDocker(s, c)
	}
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(header.Version, "1.") {
		return nil, fmt.Errorf("an image layout of version %.20q isn't read, only 1", header.Version)
	}
	var index ociDocument
	if err := i.decode(s, "index.json", &index); err != nil {
		return nil, err
	}
	if err := index.check(ociDescriptor{MediaType: ociIndexes[0]}); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	f := ociFinder{i: i, store: s, choice: c}
	if err := f.top(index.Manifests); err != nil {
		return nil, err
	}
	found, err := f.one()
	if err != nil {
		return nil, err
	}
	return i.manifestLayers(s, found.descriptor)
}

// decode reads a file of a store as JSON.
func (i *ociImporter) decode(s ociStore, name string, v any) error {
	b, err := s.open(name)
	if err != nil {
		return err
	}
	return errors.Join(i.decodeBlob(name, b, v), b.Close())
}

func (i *ociImporter) decodeBlob(name string, b *ociBlob, v any) error {
	if b.Size() > i.limits.json {
		return refuse("%s has more than %d bytes", name, i.limits.json)
	}
	text := make([]byte, b.Size())
	if _, err := io.ReadFull(b, text); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	return nil
}

// decodeVerified reads what a descriptor refers to as JSON.
func (i *ociImporter) decodeVerified(s ociStore, d ociDescriptor, v any) error {
	digest, err := parseDigest(d.Digest)
	if err != nil {
		return err
	}
	b, err := s.open(digest.path())
	if err != nil {
		return err
	}
	if d.Size > i.limits.json { // before it is read to verify it
		err = refuse("%s has more than %d bytes", d.Digest, i.limits.json)
	}
	if err == nil {
		err = i.verify(b, d)
	}
	if err == nil {
		err = i.decodeBlob(d.Digest, b, v)
	}
	return errors.Join(err, b.Close())
}

// check tells if a document isn't clearly what its descriptor says: one that can
// be read as two things would be two images under one digest.
func (d *ociDocument) check(as ociDescriptor) error {
	index := slices.Contains(ociIndexes, as.MediaType)
	switch {
	case d.SchemaVersion != 2:
		return fmt.Errorf("a manifest of version %d isn't read, only 2", d.SchemaVersion)
	case d.MediaType != "" && d.MediaType != as.MediaType:
		return refuse("it is called %.100q, and calls itself %.100q", as.MediaType, d.MediaType)
	case index && (d.Config != nil || d.Layers != nil), !index && d.Manifests != nil:
		return refuse("it is an index and a manifest at once")
	}
	return nil
}

// manifestLayers returns the layers of a manifest.
func (i *ociImporter) manifestLayers(s ociStore, d ociDescriptor) ([]ociLayer, error) {
	m, config, err := i.manifest(s, d)
	if err != nil {
		return nil, err
	}
	if config == nil {
		return nil, fmt.Errorf("%s isn't an image of files", d.Digest)
	}
	diffs, err := config.diffs(len(m.Layers))
	if err != nil {
		return nil, err
	}
	list := make([]ociLayer, 0, len(m.Layers))
	for n, l := range m.Layers {
		switch digest, err := parseDigest(l.Digest); {
		case foreign(l.MediaType):
			return nil, fmt.Errorf("layer %d may not be given away, and has to be got from elsewhere: %.100q", n+1, l.MediaType)
		case !slices.Contains(ociLayers, l.MediaType):
			return nil, fmt.Errorf("layer %d is of a kind that isn't read: %.100q", n+1, l.MediaType)
		case err != nil:
			return nil, fmt.Errorf("layer %d: %w", n+1, err)
		default:
			list = append(list, ociLayer{digest.path(), &l, diffs[n]})
		}
	}
	return list, nil
}

// manifest reads a manifest and its configuration, which is nil for what is
// something else than an image.
func (i *ociImporter) manifest(s ociStore, d ociDescriptor) (*ociDocument, *ociConfig, error) {
	var m ociDocument
	err := i.decodeVerified(s, d, &m)
	if err == nil {
		err = m.check(d)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the manifest: %w", err)
	}
	if m.Config == nil || !slices.Contains(ociConfigs, m.Config.MediaType) {
		return &m, nil, nil
	}
	var config ociConfig
	if err := i.decodeVerified(s, *m.Config, &config); err != nil {
		return nil, nil, fmt.Errorf("the configuration: %w", err)
	}
	return &m, &config, nil
}

// diffs returns the digests of layers as they are unpacked.
func (c *ociConfig) diffs(layers int) ([]ociDigest, error) {
	if c.RootFS.Type != "layers" || len(c.RootFS.DiffIDs) != layers {
		return nil, fmt.Errorf("%d layers, but the configuration has %d of kind %.20q", layers, len(c.RootFS.DiffIDs), c.RootFS.Type)
	}
	list := make([]ociDigest, 0, layers)
	for _, text := range c.RootFS.DiffIDs {
		d, err := parseDigest(text)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}
