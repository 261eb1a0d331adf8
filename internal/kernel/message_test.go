package kernel

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestMessageRoundTrip(t *testing.T) {
	t.Parallel()
	in := message{
		name: strings.Repeat("n", maxName), uuid: strings.Repeat("u", maxUUID),
		dev: 0x1234567890, flags: flagReadOnly | flagSecure, event: 0x60abcd, targets: 1,
	}
	buf := make([]byte, headerSize)
	in.put(buf)
	out, err := parseReply(buf)
	if err != nil {
		t.Fatal(err)
	}
	if out.name != in.name || out.uuid != in.uuid || out.dev != in.dev || out.flags != in.flags ||
		out.event != in.event || out.targets != in.targets || len(out.data) != 0 {
		t.Errorf("put %+v, read %+v", in, out)
	}
}

// The bytes are those that libdevmapper sends for such a table.
func TestTableMessage(t *testing.T) {
	t.Parallel()
	const params = "aes-xts-plain64 :64:logon:cryptsetup:U-d0 0 254:16 32768"
	buf := make([]byte, tableSize(len(params)))
	if len(buf)%8 != 0 || len(buf) <= headerSize+targetSize+len(params) {
		t.Fatalf("message of %d bytes", len(buf))
	}
	for i := range buf {
		buf[i] = 0xff
	}
	putTarget(buf, "crypt", 491520, []byte(params[:16]), []byte(params[16:]))
	message{dev: 0xfe01, targets: 1, flags: flagSecure}.put(buf)
	e := binary.NativeEndian
	for _, field := range []struct {
		name      string
		got, want uint64
	}{
		{"version", uint64(e.Uint32(buf)), 4},
		{"data size", uint64(e.Uint32(buf[12:])), uint64(len(buf))},
		{"data start", uint64(e.Uint32(buf[16:])), 312},
		{"targets", uint64(e.Uint32(buf[20:])), 1},
		{"flags", uint64(e.Uint32(buf[28:])), 1 << 15},
		{"device", e.Uint64(buf[40:]), 0xfe01},
		{"first sector", e.Uint64(buf[312:]), 0},
		{"sectors", e.Uint64(buf[320:]), 491520},
		{"next target", uint64(e.Uint32(buf[332:])), uint64(len(buf) - 312)},
	} {
		if field.got != field.want {
			t.Errorf("%s is %d, want %d", field.name, field.got, field.want)
		}
	}
	if got := text(buf[336:352]); got != "crypt" {
		t.Errorf("target is %q", got)
	}
	if got := string(buf[352:]); strings.TrimRight(got, "\x00") != params || got[len(got)-1] != 0 {
		t.Errorf("parameters are %q", got)
	}
}

func TestParseReplyRefuses(t *testing.T) {
	t.Parallel()
	reply := func(change func(buf []byte)) []byte {
		buf := make([]byte, 1024)
		message{name: "x"}.put(buf)
		change(buf)
		return buf
	}
	e := binary.NativeEndian
	for name, buf := range map[string][]byte{
		"short":             make([]byte, headerSize-1),
		"end behind buffer": reply(func(b []byte) { e.PutUint32(b[offDataSize:], 1025) }),
		"start behind end":  reply(func(b []byte) { e.PutUint32(b[offDataStart:], 1025) }),
		"start in header":   reply(func(b []byte) { e.PutUint32(b[offDataStart:], 311) }),
		"data did not fit":  reply(func(b []byte) { e.PutUint32(b[offFlags:], flagBufferFull) }),
	} {
		if m, err := parseReply(buf); !errors.Is(err, errReply) {
			t.Errorf("%s: got %+v, %v", name, m, err)
		}
	}
}

func versionEntry(next uint32, v version, name string) []byte {
	e := binary.NativeEndian
	b := e.AppendUint32(nil, next)
	for _, n := range v {
		b = e.AppendUint32(b, n)
	}
	b = append(b, name...)
	b = append(b, 0)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestFindVersion(t *testing.T) {
	t.Parallel()
	list := append(versionEntry(24, version{1, 2, 3}, "linear"), versionEntry(0, version{1, 28, 0}, "crypt")...)
	if v, ok, err := findVersion(list, "crypt"); v != (version{1, 28, 0}) || !ok || err != nil {
		t.Errorf("crypt: %v %v %v", v, ok, err)
	}
	if v, ok, err := findVersion(list, "linear"); v != (version{1, 2, 3}) || !ok || err != nil {
		t.Errorf("linear: %v %v %v", v, ok, err)
	}
	if _, ok, err := findVersion(list, "verity"); ok || err != nil {
		t.Errorf("verity: %v %v", ok, err)
	}
	if _, ok, err := findVersion(nil, "crypt"); ok || err != nil {
		t.Errorf("empty list: %v %v", ok, err)
	}
	for _, bad := range [][]byte{list[:10], versionEntry(8, version{}, "a"), versionEntry(4000, version{}, "a")} {
		if _, _, err := findVersion(bad, "crypt"); !errors.Is(err, errReply) {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func TestVersionAtLeast(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		v    version
		want bool
	}{
		{version{1, 18, 0}, false}, {version{1, 18, 1}, true}, {version{1, 17, 9}, false},
		{version{1, 19, 0}, true}, {version{2, 0, 0}, true}, {version{0, 99, 99}, false},
	} {
		if got := tt.v.atLeast(1, 18, 1); got != tt.want {
			t.Errorf("%v at least 1.18.1: %v", tt.v, got)
		}
	}
}

func TestFitOptions(t *testing.T) {
	t.Parallel()
	all := []string{"allow_discards", "same_cpu_crypt", "no_read_workqueue", "high_priority", "sector_size:4096"}
	for _, tt := range []struct {
		v       version
		options []string
		dropped []string
		err     error
	}{
		{version{1, 28, 0}, all, nil, nil},
		{version{1, 25, 0}, all, []string{"high_priority"}, nil},
		{version{1, 17, 0}, all, []string{"no_read_workqueue", "high_priority"}, nil},
		{version{1, 16, 0}, all, nil, ErrUnsupported},
		{version{1, 10, 0}, all[:1], all[:1], nil},
	} {
		known, dropped, err := tt.v.fit(tt.options)
		if !slices.Equal(dropped, tt.dropped) || !errors.Is(err, tt.err) {
			t.Errorf("%v drops %q, %v", tt.v, dropped, err)
		}
		if err == nil && len(known)+len(dropped) != len(tt.options) {
			t.Errorf("%v keeps %q", tt.v, known)
		}
	}
}

func TestMajorMinor(t *testing.T) {
	t.Parallel()
	for dev, want := range map[uint64]string{0xfd00: "253:0", 0xfe10: "254:16", 0x1000fd00: "253:65536"} {
		if got := number(majorMinor(dev)); got != want {
			t.Errorf("%#x is %s, want %s", dev, got, want)
		}
	}
}

func TestEvent(t *testing.T) {
	t.Parallel()
	if got := event(0x6ff9); got != 0x606ff9 {
		t.Errorf("with a cookie: %#x", got)
	}
	if got := event(0); got != 0x400000 {
		t.Errorf("without: %#x", got)
	}
	if got := semKey(0x6ff9); got != 0x0d4d6ff9 {
		t.Errorf("key: %#x", got)
	}
}

func FuzzReply(f *testing.F) {
	buf := make([]byte, headerSize)
	message{name: "x"}.put(buf)
	f.Add(buf, "crypt")
	list := append(buf, versionEntry(24, version{1, 2, 3}, "linear")...)
	list = append(list, versionEntry(0, version{1, 28, 0}, "crypt")...)
	binary.NativeEndian.PutUint32(list[offDataSize:], uint32(len(list)))
	f.Add(list, "crypt")
	f.Fuzz(func(t *testing.T, b []byte, target string) {
		m, err := parseReply(b)
		if err != nil {
			if m.data != nil || m.name != "" {
				t.Errorf("an error and %+v", m)
			}
			return
		}
		_, _, _ = findVersion(m.data, target)
	})
}
