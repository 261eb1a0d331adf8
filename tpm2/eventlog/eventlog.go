// Package eventlog reads the logs of what was measured into a TPM's PCRs,
// computes from them what the PCRs hold, and says each event in words.
//
// There are two logs. The firmware's, which boot loaders and the kernel's EFI
// stub add to, is laid down in the TCG PC Client Platform Firmware Profile: the
// old form with SHA-1 alone, and the crypto agile form, whose first event lists
// its banks. systemd's, of what it measures once the kernel runs, is a sequence
// of JSON records after the TCG's Canonical Event Log format.
//
// A log is a claim. What it says can be believed as far as the value that it
// comes to is the one that the TPM has, and then only about the digests: that
// an event's data is what was hashed is not checked, and often cannot be.
package eventlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Where the logs are, below the root.
const (
	firmwarePath = "sys/kernel/security/tpm0/binary_bios_measurements"
	systemdPath  = "run/log/systemd/tpm2-measure.log"
)

// Bounds on one log: real ones stay below 1 MiB and 1000 events.
const (
	maxLog    = 16 << 20
	maxEvents = 1 << 16
)

// maxPCR is the last PCR of a PC's TPM.
const maxPCR = 23

// Event is one measurement, or a remark of the firmware's (EV_NO_ACTION).
type Event struct {
	PCR     int               // -1 for a remark about none
	Type    Type              // 0 in systemd's log
	Digests map[string][]byte // by bank: sha1, sha256, sha384, sha512
	Data    []byte            // of the event; in systemd's log the string that was measured
	System  bool              // from systemd's log
	Kind    string            // in systemd's log what was measured, like "phase"; else ""
}

// Log is what was measured since the machine started, in order.
type Log struct {
	Events []Event
	Banks  []string // in which the firmware measured; those not known here are left out
}

// Of returns the events that went into a PCR, in order.
func (l *Log) Of(pcr int) []Event {
	var list []Event
	for _, e := range l.Events {
		if e.PCR == pcr && e.extends() {
			list = append(list, e)
		}
	}
	return list
}

// extends tells whether the event changed its PCR.
func (e Event) extends() bool { return e.System || e.Type != NoAction }

// Read reads the logs of the machine whose root folder this is: the firmware's,
// then systemd's. The error is fs.ErrNotExist if there is neither.
func Read(root string) (*Log, error) {
	firmware, err := readFile(filepath.Join(root, firmwarePath))
	missing := err
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	system, err := readFile(filepath.Join(root, systemdPath))
	if errors.Is(err, fs.ErrNotExist) && missing != nil {
		return nil, missing
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return parseBoth(firmware, system)
}

func parseBoth(firmware, system []byte) (*Log, error) {
	l, err := ParseFirmware(firmware)
	if err != nil {
		return nil, fmt.Errorf("the firmware's log: %w", err)
	}
	events, err := ParseSystemd(system)
	if err != nil {
		return nil, fmt.Errorf("systemd's log: %w", err)
	}
	l.Events = slices.Concat(l.Events, events)
	return l, nil
}

// readFile reads one byte too many at most: the parsers refuse what is too long.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxLog+1))
}
