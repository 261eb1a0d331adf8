package kernel

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// version of a device-mapper target.
type version [3]uint32

func (v version) atLeast(major, minor, patch uint32) bool {
	w := version{major, minor, patch}
	for i := range v {
		if v[i] != w[i] {
			return v[i] > w[i]
		}
	}
	return true
}

// keyring reports whether dm-crypt of this version takes keys from the keyring
// without the faults of its first attempts.
func (v version) keyring() bool { return v.atLeast(1, 18, 1) }

// since says from which version on dm-crypt knows an option. Without the
// optional ones a volume is slower but reads the same; libcryptsetup drops them
// as well.
//
// Source: Linux, Documentation/admin-guide/device-mapper/dm-crypt.rst.
var since = []struct {
	option   string // its beginning
	version  version
	optional bool
}{
	{"allow_discards", version{1, 11, 0}, true},
	{"same_cpu_crypt", version{1, 14, 0}, true},
	{"submit_from_crypt_cpus", version{1, 14, 0}, true},
	{"sector_size:", version{1, 17, 0}, false},
	{"no_read_workqueue", version{1, 22, 0}, true},
	{"no_write_workqueue", version{1, 22, 0}, true},
	{"high_priority", version{1, 26, 0}, true},
}

// fit splits options into those that this version knows and those that are
// dropped. One that it would need and does not know gives [ErrUnsupported].
func (v version) fit(options []string) (known, dropped []string, err error) {
next:
	for _, o := range options {
		for _, s := range since {
			if !strings.HasPrefix(o, s.option) || v.atLeast(s.version[0], s.version[1], s.version[2]) {
				continue
			}
			if !s.optional {
				return nil, nil, fmt.Errorf("option %s of dm-crypt is %w", o, ErrUnsupported)
			}
			dropped = append(dropped, o)
			continue next
		}
		known = append(known, o)
	}
	return known, dropped, nil
}

// findVersion looks for a target in a list of struct dm_target_versions.
func findVersion(data []byte, target string) (version, bool, error) {
	e := binary.NativeEndian
	for len(data) > 0 {
		if len(data) < 16 {
			return version{}, false, errReply
		}
		next := e.Uint32(data)
		entry := data
		if next != 0 {
			if next < 16 || uint64(next) > uint64(len(data)) {
				return version{}, false, errReply
			}
			entry = data[:next]
		}
		if text(entry[16:]) == target {
			return version{e.Uint32(entry[4:]), e.Uint32(entry[8:]), e.Uint32(entry[12:])}, true, nil
		}
		if next == 0 {
			return version{}, false, nil
		}
		data = data[next:]
	}
	return version{}, false, nil
}
