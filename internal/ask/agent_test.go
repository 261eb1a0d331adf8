package ask

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/volume"
)

func TestRequestText(t *testing.T) {
	t.Parallel()
	r := request{
		pid: 17, socket: "/run/x/sck.1f", acceptCached: true, echo: volume.EchoMasked, notAfter: 123456,
		message: "Please enter passphrase for disk a\nb\r\x1b[2J", id: "cryptsetup:/dev/sd\na",
	}
	want := `[Ask]
PID=17
Socket=/run/x/sck.1f
AcceptCached=1
Echo=0
NotAfter=123456
Silent=0
Message=Please enter passphrase for disk a?b??[2J:
Icon=drive-harddisk
Id=cryptsetup:/dev/sd?a
`
	if diff := cmp.Diff(want, r.text()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for echo, want := range map[volume.Echo]string{
		volume.EchoPlain: "AcceptCached=0\nEcho=1\nNotAfter=0\nSilent=0\n",
		volume.EchoNone:  "AcceptCached=0\nEcho=0\nNotAfter=0\nSilent=1\n",
	} {
		if got := (request{echo: echo}).text(); !strings.Contains(got, want) || strings.Contains(got, "Id=") {
			t.Errorf("echo %v: %q", echo, got)
		}
	}
}

func TestParseReply(t *testing.T) {
	t.Parallel()
	for datagram, want := range map[string][]string{
		"+":              {""},
		"+\x00":          {""},
		"+a":             {"a"},
		"+a\x00":         {"a"},
		"+a\x00b":        {"a", "b"},
		"+a\x00b\x00":    {"a", "b"},
		"++-":            {"+-"},
		"+a\x00\x00\x00": {"a", ""},
	} {
		secrets, err := parseReply([]byte(datagram))
		if diff := cmp.Diff(want, texts(secrets)); err != nil || diff != "" {
			t.Errorf("%q: %v, -want +got:\n%s", datagram, err, diff)
		}
	}
	for _, datagram := range []string{"-", "-x"} {
		if secrets, err := parseReply([]byte(datagram)); !errors.Is(err, volume.ErrNoAnswer) || secrets != nil {
			t.Errorf("%q: %v", datagram, err)
		}
	}
	for _, datagram := range []string{"", "x", "\x00", " +a", "+" + manyAnswers(maxAnswers+1)} {
		if secrets, err := parseReply([]byte(datagram)); err == nil || errors.Is(err, volume.ErrNoAnswer) || secrets != nil {
			t.Errorf("%.10q: %v", datagram, err)
		}
	}
}

func TestMayAnswer(t *testing.T) {
	t.Parallel()
	if !mayAnswer(0, 1000) || !mayAnswer(1000, 1000) || !mayAnswer(0, 0) || mayAnswer(1000, 0) || mayAnswer(1001, 1000) {
		t.Error("the wrong users may answer")
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte("+a\x00b\x00"))
	f.Add([]byte("-"))
	f.Add([]byte("+"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		before := string(datagram)
		secrets, err := parseReply(datagram)
		if (err == nil) != (len(secrets) > 0) || len(secrets) > maxAnswers {
			t.Errorf("%q: %d secrets, %v", datagram, len(secrets), err)
		}
		if err == nil && before[0] != '+' {
			t.Errorf("%q is an answer", datagram)
		}
		if string(datagram) != before {
			t.Errorf("%q became %q", before, datagram)
		}
		for _, s := range texts(secrets) {
			if strings.Contains(s, "\x00") || !strings.Contains(before[1:], s) {
				t.Errorf("%q: answer %q", datagram, s)
			}
		}
	})
}
