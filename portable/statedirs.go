package portable

import (
	"io/fs"
	"path"
	"strings"
)

// StateDirectories returns the directories of an image that the service manager
// mounts something over for a service that keeps state, caches, logs or
// configuration outside of it: systemd.exec(5), StateDirectory=. They must be in
// an image that is not writable.
func StateDirectories(unit string, text []byte) []string {
	var list []string
	eachStateDirectory(parseUnitFile(text, "Service").settings, unit, func(m mount) bool {
		list = append(list, m.path)
		return len(list) < maxMounts
	})
	return list
}

// eachStateDirectory goes through those of a service as long as more are wanted.
func eachStateDirectory(set settings, unit string, do func(m mount) (more bool)) {
	for _, dir := range stateSettings {
		eachWord(set, dir.key, func(v setting, w string) bool {
			name, _, _ := strings.Cut(w, ":")
			if e := expand(name, unit); e.known && fs.ValidPath(e.text) {
				return do(mount{path.Join(dir.top, e.text), directory, dir.key + "=" + e.text, v})
			}
			return true
		})
	}
}
