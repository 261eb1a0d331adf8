package portable

import (
	"io/fs"
	"path"
)

// ChangeType is what is done to a path.
type ChangeType string

// The types of changes, in the words of the D-Bus interface of the original.
const (
	Copy    ChangeType = "copy"
	Symlink ChangeType = "symlink"
	Unlink  ChangeType = "unlink" // also of directories
	Write   ChangeType = "write"
	Mkdir   ChangeType = "mkdir"
)

// Change is one step of a plan.
type Change struct {
	Type    ChangeType `json:"type"`
	Path    string     `json:"path"`
	Source  string     `json:"source,omitempty"`
	Content []byte     `json:"-"` // of what is copied and written

	replace bool        // what is there may be replaced
	before  *state      // what is there, once it is known
	mode    fs.FileMode // of a directory that is made again
	image   bool        // it makes, replaces or removes a whole image, which is not held in memory
}

// Plan is a list of changes that belong together. It was made for the host as it
// was then; what has changed since makes its application fail.
type Plan struct {
	Scope   Scope
	Changes []Change
	// Removed are changes of the first half of a reattachment that the second does not make good.
	Removed []Change
	// Kept are directories that stay, as they hold files of others.
	Kept []string
	// Markers name the images: those attached, or those detached.
	Markers []Marker
	// Units are those that are attached or detached, sorted.
	Units []string
	// Prefixes that chose the units of an attachment.
	Prefixes []string

	copies []imageCopy // that units were run from which it removes
	images []string    // that it attaches
}

// gone returns the units that nothing is left of.
func (p *Plan) gone() []string {
	var list []string
	for _, file := range UnitFiles(p.Changes, Unlink) {
		list = append(list, path.Base(file))
	}
	return list
}
