package crypttab

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSample reads the table whose units were made by the original.
func TestSample(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/generator.crypttab")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	got, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(line int, fields, key, keyDevice string, options Options) Entry {
		f := strings.Fields(fields)
		return Entry{Name: f[0], Device: f[1], KeyFile: key, KeyDevice: keyDevice, Options: options, Line: line, Fields: f}
	}
	none := func(*Options) {}
	want := []Entry{
		entry(2, "vol1 UUID=2505567a-9e27-4efe-a4d5-15ad146c258b none timeout=0", "", "", want("timeout", none)),
		entry(3, "vol2 /dev/sda7 /etc/keys/vol2.key:LABEL=keydev noauto,discard,keyfile-timeout=10s", "/etc/keys/vol2.key", "LABEL=keydev",
			want("noauto discard keyfile-timeout", func(o *Options) {
				o.Boot.NoAuto, o.Flags.Discard, o.Boot.KeyFileTimeout = true, true, Wait{true, 10 * time.Second}
			})),
		entry(4, "swap /dev/sda8 /dev/urandom swap,cipher=aes-xts-plain64,size=256", "/dev/urandom", "",
			want("swap cipher size", func(o *Options) { o.Type, o.Swap, o.Cipher, o.KeySize = TypePlain, true, "aes-xts-plain64", 256 })),
		entry(5, "tmp /dev/sda9 /dev/urandom tmp=xfs", "/dev/urandom", "",
			want("tmp", func(o *Options) { o.Type, o.MakeFS = TypePlain, "xfs" })),
		entry(6, "vol3 PARTLABEL=foo - nofail,_netdev,tpm2-device=auto,x-systemd.device-timeout=30s,header=/h.img:UUID=aaaa1111-9e27-4efe-a4d5-15ad146c258b", "", "",
			want("nofail _netdev tpm2-device x-systemd.device-timeout header", func(o *Options) {
				o.Boot = Boot{NoFail: true, NetDev: true, DeviceTimeout: Wait{true, 30 * time.Second}}
				o.TPM2.Device = Auto
				o.Type, o.Header, o.HeaderDevice = TypeLUKS, "/h.img", "UUID=aaaa1111-9e27-4efe-a4d5-15ad146c258b"
			})),
		entry(7, "root /dev/sda2 - x-initrd.attach,fido2-device=auto", "", "",
			want("x-initrd.attach fido2-device", func(o *Options) { o.Boot.InInitrd, o.FIDO2.Device = true, Auto })),
		entry(8, "img /var/img.raw /etc/k", "/etc/k", "", want("", none)),
		entry(9, "weird-name/x /dev/sdb", "", "", want("", none)),
	}
	want[7].Warnings = []Warning{{Text: `volume name "weird-name/x" holds a slash`}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := strings.Join(got[1].Unsupported(), "; "); got != "a key file on a device of its own" {
		t.Errorf("unsupported on line 3: %q", got)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	long := "long /dev/sda " + strings.Repeat("x", maxLine)
	table := strings.Join([]string{
		"  # a comment, and an empty line",
		"",
		"\tgood1\v/dev/sda1  -   discard  \r",
		"alone",
		"bad /dev/sdb - header=relative",
		"good2 /dev/sdc # luks",
		"good1 /dev/sdd",
		"both /dev/sde /dev/urandom swap,tmp",
		"nul /dev/sdf\x00",
		long,
		"good3 /dev/sdg none luks, discard",
		"good4 /dev/sdh relative.key",
		"good5 /dev/sdi /k\u00a0ey",
	}, "\n")
	got, err := Parse(strings.NewReader(table))
	var names []string
	for _, e := range got {
		names = append(names, e.Name)
	}
	if diff := cmp.Diff([]string{"good1", "good2", "good3", "good4", "good5"}, names); diff != "" {
		t.Errorf("names: -want +got:\n%s", diff)
	}
	for _, text := range []string{
		`line 4: volume "alone" has no device`,
		`line 5: volume "bad": option "header=relative": not an absolute path`,
		`line 7: volume "good1" is already on line 3`,
		`line 8: volume "both": swap and tmp exclude each other`,
		`line 9: holds a NUL byte`,
		`line 10: longer than`,
	} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error does not say %q:\n%v", text, err)
		}
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 6 {
		t.Errorf("%d errors, want 6:\n%v", n, err)
	}
	if !got[0].Options.Flags.Discard || got[0].Line != 3 || len(got[0].Warnings) != 0 {
		t.Errorf("good1: %+v", got[0])
	}
	if w := got[2].Warnings; len(w) != 1 || !strings.Contains(w[0].String(), `"discard"`) || got[2].Options.Flags.Discard {
		t.Errorf("good3: %v", w)
	}
	if w := got[3].Warnings; len(w) != 1 || !strings.Contains(w[0].String(), "relative.key") || got[3].KeyFile != "" {
		t.Errorf("good4: %v", w)
	}
	if got[4].KeyFile != "/k\u00a0ey" {
		t.Errorf("good5: %q", got[4].KeyFile)
	}
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	if got, err := Parse(strings.NewReader(strings.Repeat("\n", maxTable+1))); err == nil || got != nil {
		t.Errorf("too long: %v, %v", got, err)
	}
	broken := errors.New("broken")
	if got, err := Parse(iotest.ErrReader(broken)); !errors.Is(err, broken) || got != nil {
		t.Errorf("read error: %v, %v", got, err)
	}
	var many strings.Builder
	for i := range maxEntries + 1 {
		many.WriteString("v" + strings.Repeat("0", i%50) + string(rune('a'+i/50%26)) + string(rune('a'+i/1300)) + " /dev/sda\n")
	}
	got, err := Parse(strings.NewReader(many.String()))
	if err == nil || !strings.Contains(err.Error(), "more than") || len(got) != maxEntries {
		t.Errorf("too many: %d, %v", len(got), err)
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	tests := []struct{ field, file, device string }{
		{"", "", ""}, {"-", "", ""}, {"none", "", ""},
		{"/k", "/k", ""},
		{"/dev/urandom", "/dev/urandom", ""},
		{"/k:UUID=1-2", "/k", "UUID=1-2"},
		{"/k:/dev/sdb", "/k", "/dev/sdb"},
		{"/k:x:ID=y", "/k:x", "ID=y"},
		{"/k:x", "/k:x", ""},
		{"/k:WHAT=x", "/k:WHAT=x", ""},
		{"/k:", "/k:", ""},
	}
	for _, test := range tests {
		file, device, warnings := ParseKey(test.field)
		if file != test.file || device != test.device || warnings != nil {
			t.Errorf("%q: %q on %q, %v", test.field, file, device, warnings)
		}
	}
	for _, field := range []string{"k", "./k", ":LABEL=x", "NONE"} {
		if file, device, warnings := ParseKey(field); file != "" || device != "" || len(warnings) != 1 {
			t.Errorf("%q: %q on %q, %v", field, file, device, warnings)
		}
	}
}

func TestDeviceNode(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]string{
		"/dev/sda":          "/dev/sda",
		"/dev/disk/a=b":     "/dev/disk/a=b",
		"sda":               "sda",
		"UUID=ab-12":        "/dev/disk/by-uuid/ab-12",
		`UUID="ab-12"`:      "/dev/disk/by-uuid/ab-12",
		"LABEL='my disk'":   `/dev/disk/by-label/my\x20disk`,
		"LABEL=a/b\\\xffü":  `/dev/disk/by-label/a\x2fb\x5c\xffü`,
		"PARTUUID=1":        "/dev/disk/by-partuuid/1",
		"PARTLABEL=a+b.c:d": "/dev/disk/by-partlabel/a+b.c:d",
		"ID=wwn-0x1":        "/dev/disk/by-id/wwn-0x1",
		"uuid=1":            "uuid=1",
	} {
		if got := DeviceNode(spec); got != want {
			t.Errorf("%q: got %q, want %q", spec, got, want)
		}
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"root", "luks-1-2", "a b", "ü", strings.Repeat("n", 127)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00", strings.Repeat("n", 128)} {
		if CheckName(name) == nil {
			t.Errorf("%q is good", name)
		}
	}
}
