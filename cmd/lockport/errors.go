package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// What only the command can tell; hints.go has the advice.
var (
	// errNotBuilt: the option is known, but this release does not do it.
	errNotBuilt = errors.New("not part of this release")
	// errKeyLost marks a recovery key that could not be printed.
	errKeyLost = errors.New("the key is lost")
	// errTerminal: data would end up on a screen.
	errTerminal = errors.New("standard output is a terminal")
	// errNoDevice: no device is named and none can be guessed.
	errNoDevice = errors.New("no device is named")
	// errNoVolume marks a device that does not exist.
	errNoVolume = errors.New("no such volume")
	// errLUKS1: the volume has the older format.
	errLUKS1 = errors.New("not a LUKS2 volume but a LUKS1 volume")
	// errTooSmall: a new volume does not fit.
	errTooSmall = errors.New("too small for a volume")
	// errUnlike marks a device that a backup can't be compared with.
	errUnlike = errors.New("not known to be the volume of the backup")
	// errSwapped marks a device that is smaller than its backup.
	errSwapped = errors.New("smaller than the backup")
	// errNotEmpty marks a device that a new volume would overwrite.
	errNotEmpty = errors.New("not empty")
	// errCosts marks costs of a derivation that are of no use.
	errCosts = errors.New("unusable costs")
	// errSigningKey marks a key of a kind that signs no PCR policies.
	errSigningKey = errors.New("no key for PCR policies")
	// errElsewhere marks an option that is about another system than this one.
	errElsewhere = errors.New("another system")
	// errNeedsManager marks options that only a running system can meet.
	errNeedsManager = errors.New("needs a running system")
	// errCopyMode marks a value of --copy that is none.
	errCopyMode = errors.New("no copy mode")
	// errNoSpec marks a folder that says nothing of an image.
	errNoSpec = errors.New("no specification")
	// errOutside marks an image that the tree does not have.
	errOutside = errors.New("outside of the tree")
)

// exitStatus is an outcome that has an exit status of its own. All that there is
// to say of it was printed.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// A deviceError is about a device, which the advice can name.
type deviceError struct {
	device string
	err    error
}

// onDevice says which device an error is about, nil for none.
func onDevice(device string, err error) error {
	if err == nil {
		return nil
	}
	var p *fs.PathError
	if errors.As(err, &p) && p.Path == device && p.Error() == err.Error() {
		err = p.Err
	}
	return &deviceError{device, err}
}

func (e *deviceError) Error() string {
	if text := e.err.Error(); strings.HasPrefix(text, e.device+": ") {
		return text
	}
	return e.device + ": " + e.err.Error()
}
func (e *deviceError) Unwrap() error { return e.err }

// marked is an error with a mark that only the advice looks at.
type marked struct {
	error
	mark error
}

func (m marked) Unwrap() error        { return m.error }
func (m marked) Is(target error) bool { return target == m.mark }

// message is the text of an error for a person.
func message(err error) string {
	text := err.Error()
	if !errors.Is(err, context.Canceled) {
		return text
	}
	if strings.Contains(text, "interrupted: context canceled") {
		return strings.ReplaceAll(text, ": context canceled", "")
	}
	return strings.ReplaceAll(text, "context canceled", "interrupted")
}
