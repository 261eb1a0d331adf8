package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/secret/secrettest"
)

func TestMain(m *testing.M) { secrettest.Main(m) }

// spellings are the ways in which the text "swordfish" could leak.
var spellings = []string{"swordfish", "73776f726466697368", "115 119 111", "c3dvcmRmaXNo", "0x73"}

func mustHide(t *testing.T, how, out string) {
	t.Helper()
	for _, s := range spellings {
		if strings.Contains(strings.ToLower(out), s) {
			t.Errorf("%s reveals the secret: %q", how, out)
		}
	}
}

func TestRedaction(t *testing.T) {
	s := secret.From([]byte("swordfish"))
	defer s.Wipe()
	holder := struct {
		Key  *secret.Bytes
		Keys []*secret.Bytes
		Any  any
	}{s, []*secret.Bytes{s}, s}

	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%10s"} {
		mustHide(t, verb, fmt.Sprintf(verb, s))
		// Inside a struct the verbs that print pointers never follow them.
		mustHide(t, verb+" in a struct", fmt.Sprintf(verb, holder))
	}
	out, err := json.Marshal(holder)
	if err != nil || !bytes.Contains(out, []byte(`"Key":"[secret]"`)) {
		t.Errorf("json: %s, %v", out, err)
	}
	mustHide(t, "json", string(out))
	type named struct{ Key *secret.Bytes }
	out, err = xml.Marshal(named{s})
	if err != nil {
		t.Error(err)
	}
	mustHide(t, "xml", string(out))
	if err := gob.NewEncoder(io.Discard).Encode(s); err == nil {
		t.Error("gob encoded a secret")
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", s, "all", holder)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", s, "all", holder)
	mustHide(t, "slog", log.String())
	mustHide(t, "error", fmt.Errorf("opening: %v: %w", s, io.EOF).Error())
}

func TestLife(t *testing.T) {
	source := []byte("swordfish")
	s := secret.From(source)
	if !bytes.Equal(source, make([]byte, 9)) {
		t.Error("From left the source as it was")
	}
	c := s.Clone()
	defer c.Wipe()
	part := s.Slice(0, 5)
	defer part.Wipe()
	if !s.Equal(c) || s.Equal(part) || string(part.Reveal()) != "sword" {
		t.Error("Clone, Slice or Equal is wrong")
	}
	page := s.Reveal()
	s.Shrink(5)
	if s.Len() != 5 || !bytes.Equal(page[5:], make([]byte, 4)) {
		t.Error("Shrink left the tail behind")
	}
	s.Wipe()
	s.Wipe()
	if s.Len() != 0 || s.Reveal() != nil || s.Equal(c) {
		t.Error("a wiped secret still has content")
	}
	var none *secret.Bytes
	none.Wipe()
	if none.Len() != 0 || fmt.Sprint(none) != "[secret]" {
		t.Error("a nil secret misbehaves")
	}
	a, b := secret.Random(32), secret.Random(32)
	defer a.Wipe()
	defer b.Wipe()
	if a.Equal(b) {
		t.Error("two random secrets are equal")
	}
}

func TestReadAll(t *testing.T) {
	for _, n := range []int{0, 1, 4095, 4096, 4097, 20000} {
		want := bytes.Repeat([]byte("k"), n)
		s, err := secret.ReadAll(iotest.OneByteReader(bytes.NewReader(want)), 20000)
		if err != nil || !bytes.Equal(s.Reveal(), want) {
			t.Errorf("%d bytes: got %d, %v", n, s.Len(), err)
		}
		s.Wipe()
	}
	if _, err := secret.ReadAll(strings.NewReader("12345"), 4); !errors.Is(err, secret.ErrTooLong) {
		t.Errorf("over the limit: %v", err)
	}
	broken := errors.New("broken")
	if _, err := secret.ReadAll(iotest.ErrReader(broken), 4); !errors.Is(err, broken) {
		t.Errorf("read error: %v", err)
	}
}
