package kernel

import (
	"slices"
	"strings"
	"testing"
)

const mountinfo = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 253:0 / /mnt rw,relatime shared:5 - ext4 /dev/mapper/data rw
31 22 253:0 /sub /srv/my\040disk rw,relatime - ext4 /dev/mapper/data rw
32 22 0:55 / /pool rw - btrfs /dev/mapper/my\134x20pool rw
33 22 253:01 / /no rw - ext4 /dev/x rw
short line
`

func TestMountPoints(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		number string
		nodes  []string
		want   []string
	}{
		{"253:0", nil, []string{"/mnt", "/srv/my disk"}},
		{"253:9", []string{`/dev/mapper/my\x20pool`}, []string{"/pool"}},
		{"253:9", []string{"/dev/mapper/other"}, nil},
		{"254:0", []string{"/dev/vda"}, []string{"/"}},
	} {
		if got := mountPoints(strings.NewReader(mountinfo), tt.number, tt.nodes...); !slices.Equal(got, tt.want) {
			t.Errorf("%s %v: %q, want %q", tt.number, tt.nodes, got, tt.want)
		}
	}
}

func TestMountSource(t *testing.T) {
	t.Parallel()
	const more = "40 22 0:60 / /mnt rw - btrfs /dev/mapper/over rw\n"
	for path, want := range map[string]string{
		"/":                     "/dev/vda",
		"/mntx":                 "/dev/vda",
		"/mnt":                  "/dev/mapper/over",
		"/mnt/a/b":              "/dev/mapper/over",
		"/srv/my disk":          "/dev/mapper/data",
		"/pool/sub":             `/dev/mapper/my\x20pool`,
		"relative to no mount.": "",
	} {
		if got := mountSource(strings.NewReader(mountinfo+more), path); got != want {
			t.Errorf("%s lies on %q, want %q", path, got, want)
		}
	}
}

func FuzzMountPoints(f *testing.F) {
	f.Add(mountinfo, "253:0")
	f.Fuzz(func(t *testing.T, table, number string) {
		for _, p := range mountPoints(strings.NewReader(table), number, "/dev/x") {
			if len(p) > len(table) {
				t.Errorf("%q out of %q", p, table)
			}
		}
	})
}
