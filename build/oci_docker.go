package build

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// dockerImage is an image in an archive that docker save made: Docker Image
// Specification 1.2, manifest.json.
type dockerImage struct {
	Config   string   `json:"Config"`
	RepoTags []string `json:"RepoTags"`
	Layers   []string `json:"Layers"`
}

// chooseDocker is choose for the archives of docker save.
func (i *ociImporter) chooseDocker(s ociStore, c ociChoice) ([]ociLayer, error) {
	var list []dockerImage
	err := i.decode(s, "manifest.json", &list)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is neither an oci-layout nor a manifest.json of docker save in it", ErrSpec)
	}
	if err != nil {
		return nil, err
	}
	if len(list) > i.limits.visited {
		return nil, refuse("%d images", len(list))
	}
	var found [][]ociLayer
	var names, others []string
	for _, d := range list {
		config, err := i.dockerConfig(s, d)
		if err != nil {
			return nil, err
		}
		text := describeImage(strings.Join(d.RepoTags[:min(len(d.RepoTags), 3)], " "), config.ociPlatform)
		if !c.matches(config.ociPlatform) || c.name != "" && !slices.Contains(d.RepoTags, c.name) {
			others = append(others, text)
			continue
		}
		layers, err := d.layers(config)
		if err != nil {
			return nil, err
		}
		found, names = append(found, layers), append(names, text)
	}
	return theOne(c, found, names, others)
}

// dockerConfig reads a configuration. If it is called by its digest, as docker
// does it, that is verified. The digests of layers are in it.
func (i *ociImporter) dockerConfig(s ociStore, d dockerImage) (*ociConfig, error) {
	b, err := s.open(d.Config)
	if err != nil {
		return nil, err
	}
	name := "sha256:" + strings.TrimPrefix(strings.TrimSuffix(path.Base(d.Config), ".json"), "sha256:")
	if _, no := parseDigest(name); no == nil && b.Size() <= i.limits.json {
		err = i.verify(b, ociDescriptor{Digest: name, Size: b.Size()})
	}
	var config ociConfig
	if err == nil {
		err = i.decodeBlob(d.Config, b, &config)
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return nil, fmt.Errorf("the configuration: %w", err)
	}
	return &config, nil
}

func (d dockerImage) layers(config *ociConfig) ([]ociLayer, error) {
	diffs, err := config.diffs(len(d.Layers))
	if err != nil {
		return nil, err
	}
	list := make([]ociLayer, len(d.Layers))
	for n, name := range d.Layers {
		list[n] = ociLayer{name: name, diff: diffs[n]}
	}
	return list, nil
}
