// Package portable attaches services from OS images to a host and detaches
// them, with what systemd-portabled leaves on the disk, so that either can list
// and detach what the other attached.
//
// Everything happens beneath a root directory and in two steps: a plan, which
// writes nothing, and its application, which is complete or undone. Host has the
// steps; Local puts them together to a Service. What a service manager has to do
// with it goes through Manager.
package portable

import "errors"

var (
	// ErrNotAttached: no unit is attached from this image, in this scope.
	ErrNotAttached = errors.New("not attached")
	// ErrAttached: units of the image are attached.
	ErrAttached = errors.New("it is attached")
	// ErrUnitExists: the host has a unit of that name.
	ErrUnitExists = errors.New("the host has such a unit")
	// ErrNoUnits: the images have no units that match.
	ErrNoUnits = errors.New("no matching units")
	// ErrNoProfile: no profile has that name.
	ErrNoProfile = errors.New("no such profile")
	// ErrMismatch: an extension is not for this image.
	ErrMismatch = errors.New("the extension is not for this image")
	// ErrPrefix: the image does not allow this prefix.
	ErrPrefix = errors.New("the image does not allow this prefix")
	// ErrRelease: an image lacks a valid os-release or extension-release.
	ErrRelease = errors.New("no valid release file")
	// ErrUnfinished: an earlier change was interrupted and could not be undone.
	ErrUnfinished = errors.New("an interrupted change is in the way")
)
