package volume_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/secret/secrettest"
	"github.com/lockport/lockport/volume"
)

func TestMain(m *testing.M) { secrettest.Main(m) }

var cheap = luks2.KDF{Type: luks2.Argon2id, Time: 4, Memory: 32, CPUs: 1}

// script is an asker that answers what it was told, one line a question.
type script struct {
	answers []string // "a|b" is an answer with two secrets, "!" is no answer
	from    volume.Source
	asked   []volume.Question
}

func (s *script) Ask(_ context.Context, q volume.Question) (volume.Answer, error) {
	s.asked = append(s.asked, q)
	if len(s.answers) == 0 || s.answers[0] == "!" {
		return volume.Answer{}, volume.ErrNoAnswer
	}
	a := volume.Answer{From: s.from}
	for _, text := range strings.Split(s.answers[0], "|") {
		a.Secrets = append(a.Secrets, secret.Copy([]byte(text)))
	}
	s.answers = s.answers[1:]
	return a, nil
}

func text(t testing.TB, s string) *secret.Bytes {
	t.Helper()
	b := secret.Copy([]byte(s))
	t.Cleanup(b.Wipe)
	return b
}

// newVolume has the passphrase "first" in keyslot 0.
func newVolume(t testing.TB) (luks2.Store, *luks2.Header, *secret.Bytes) {
	t.Helper()
	s := luks2.NewMemory(make([]byte, 3<<20))
	h, key, err := luks2.Format(t.Context(), s, text(t, "first"), luks2.FormatOptions{DataOffset: 3 << 20, KeySize: 32, KDF: cheap, Fast: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	return s, h, key
}

// addSlot adds a keyslot with a token of the given type, "" for none.
func addSlot(t testing.TB, h *luks2.Header, key *secret.Bytes, pass, tokenType string) int {
	t.Helper()
	id, err := h.AddSlot(t.Context(), key, text(t, pass), luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal()})
	if err == nil && tokenType != "" {
		_, err = h.AddToken(json.RawMessage(fmt.Sprintf(`{"type":%q,"keyslots":["%d"]}`, tokenType, id)))
	}
	if err == nil {
		err = h.Commit(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func passphrase() volume.Method {
	return volume.Passphrase{Keyslot: luks2.AnySlot, Question: volume.Question{Message: "enter %s", Env: "PASSWORD"}}
}

func TestRecoveryKey(t *testing.T) {
	t.Parallel()
	key := volume.NewRecoveryKey()
	t.Cleanup(key.Wipe)
	s := string(key.Reveal())
	if len(s) != 71 || strings.Trim(s, "cbdefghijklnrtuv-") != "" || strings.Count(s, "-") != 7 {
		t.Errorf("recovery key %q", s)
	}
	for _, typed := range []string{s, strings.ToUpper(s), strings.ReplaceAll(s, "-", ""), strings.ToUpper(strings.ReplaceAll(s, "-", ""))} {
		got := volume.NormaliseRecoveryKey(text(t, typed))
		if got == nil || !got.Equal(key) {
			t.Errorf("%q is not understood", typed)
		}
		got.Wipe()
	}
	for _, typed := range []string{"", "first", s[:70], s + "c", strings.Replace(s, "-", "c", 1), "a" + s[1:], strings.Repeat("-", 71)} {
		if got := volume.NormaliseRecoveryKey(text(t, typed)); got != nil {
			got.Wipe()
			t.Errorf("%q is taken for a recovery key", typed)
		}
	}
}

func TestEnrollRecovery(t *testing.T) {
	t.Parallel()
	s, h, key := newVolume(t)
	made := time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)
	done, err := volume.Enroll(t.Context(), h, key, volume.RecoveryEnroller{}, &script{}, volume.EnrollOptions{Name: "paper", Created: made})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done.Pass.Wipe)
	h, err = luks2.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	list := volume.List(h)
	if len(list) != 2 || list[1].Kind != volume.Recovery || list[0].Kind != volume.Password || list[1].Note.Name != "paper" ||
		!list[1].Note.Created.Equal(made) || list[1].KDF.Type != luks2.PBKDF2 || list[1].KDF.Iterations != 1000 {
		t.Errorf("%+v", list)
	}
	if token, err := h.Token(0); err != nil || string(token.JSON) != `{"type":"systemd-recovery","keyslots":["1"]}` {
		t.Errorf("token %s, %v", token.JSON, err)
	}
	if h.SeqID() != 3 {
		t.Errorf("enrolling took %d writes", h.SeqID()-2)
	}
	// Typed in capitals without dashes.
	sloppy := text(t, strings.ToUpper(strings.ReplaceAll(string(done.Pass.Reveal()), "-", "")))
	got, err := volume.Open(t.Context(), h, luks2.AnySlot, sloppy)
	if err != nil || got.Keyslot != 1 {
		t.Errorf("typed sloppily: %d, %v", got.Keyslot, err)
	}
	got.Volume.Wipe()
	if err := volume.Withdraw(t.Context(), h, 1); err != nil || len(h.Tokens()) != 0 || len(h.Keyslots()) != 1 {
		t.Errorf("withdrawn: %v", err)
	}
}

// lying is a store that reads back other key material than was written.
type lying struct {
	luks2.Store
	at int64
}

func (l *lying) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.Store.ReadAt(p, off)
	if l.at > 0 && off == l.at {
		p[0] ^= 1
	}
	return n, err
}

func TestEnrollProves(t *testing.T) {
	t.Parallel()
	s, h, key := newVolume(t)
	first, _ := h.Keyslot(0)
	l := &lying{Store: s, at: first.Area.Offset + first.Area.Size}
	h, err := luks2.Open(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = volume.Enroll(t.Context(), h, key, volume.RecoveryEnroller{}, &script{}, volume.EnrollOptions{}); !errors.Is(err, luks2.ErrPassphrase) {
		t.Errorf("a keyslot that does not open was enrolled: %v", err)
	}
	h, err = luks2.Open(t.Context(), s)
	if err != nil || len(h.Keyslots()) != 1 || len(h.Tokens()) != 0 {
		t.Errorf("the bad keyslot was left behind: %v", err)
	}
	if err := h.Opens(t.Context(), 0, text(t, "first"), key); err != nil {
		t.Error(err)
	}
}

func TestEnrollPassword(t *testing.T) {
	t.Parallel()
	_, h, key := newVolume(t)
	with := volume.PasswordEnroller{Question: volume.Question{Message: "new"}, Cost: cheap}
	done, err := volume.Enroll(t.Context(), h, key, with, &script{answers: []string{"second"}}, volume.EnrollOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done.Pass.Wipe()
	if k, err := h.Keyslot(1); err != nil || k.KDF.Type != luks2.Argon2id || k.AFHash != "sha256" {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := volume.Enroll(t.Context(), h, key, with, &script{answers: []string{"!"}}, volume.EnrollOptions{}); !errors.Is(err, volume.ErrNoAnswer) {
		t.Errorf("no answer: %v", err)
	}
	if _, err := volume.Enroll(t.Context(), h, key, with, &script{answers: []string{"x"}}, volume.EnrollOptions{Name: "a\nb"}); err == nil {
		t.Error("a name with a newline was taken")
	}
	if _, err := h.AddToken(json.RawMessage(`{"type":"systemd-homed","keyslots":["0"]}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := volume.Enroll(t.Context(), h, key, with, &script{}, volume.EnrollOptions{}); !errors.Is(err, volume.ErrHomed) {
		t.Errorf("volume of homed: %v", err)
	}
	if _, err := volume.PlanWipe(t.Context(), h, volume.Selection{All: true}, 0); !errors.Is(err, volume.ErrHomed) {
		t.Errorf("volume of homed: %v", err)
	}
}

func TestParseSelection(t *testing.T) {
	t.Parallel()
	var s volume.Selection
	for _, part := range []string{"0,31,password", "tpm2"} {
		if err := s.ParseSelection(part); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(s.Slots, []int{0, 31}) || !slices.Equal(s.Kinds, []volume.Kind{volume.Password, volume.TPM2}) || s.All || s.Empty {
		t.Errorf("%+v", s)
	}
	if err := s.ParseSelection(""); err != nil || !s.None() {
		t.Errorf("not reset: %+v, %v", s, err)
	}
	for _, bad := range []string{"32", "-1", "passwords", "1,,2", " 1", "other", "conflict", "99999999999999999999"} {
		if s.ParseSelection(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestPlanWipe has the rules of systemd-cryptenroll, one case each. The volume
// has 0 password, 1 recovery, 2 tpm2, 3 foreign token, 4 empty password, and 5
// and 6 under one fido2 token.
func TestPlanWipe(t *testing.T) {
	t.Parallel()
	_, h, key := newVolume(t)
	addSlot(t, h, key, "r", "systemd-recovery")
	addSlot(t, h, key, "t", "systemd-tpm2")
	addSlot(t, h, key, "f", "clevis")
	addSlot(t, h, key, "", "")
	addSlot(t, h, key, "k", "")
	addSlot(t, h, key, "l", "")
	if _, err := h.AddToken(json.RawMessage(`{"type":"systemd-fido2","keyslots":["5","6"]}`)); err != nil {
		t.Fatal(err)
	}
	if err := h.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, wipe string
		adds       volume.Kind
		keep       []int
		want       string // slots / tokens / missing
		loses      bool
		err        error
	}{
		{name: "nothing", want: "[] [] []"},
		{name: "one number", wipe: "2", want: "[2] [1] []"},
		{name: "number under a shared token", wipe: "5", want: "[6 5] [3] []"},
		{name: "kind", wipe: "recovery", want: "[1] [0] []"},
		{name: "password spares foreign tokens", wipe: "password", want: "[4 0] [] []"},
		{name: "both human kinds", wipe: "password,recovery", want: "[4 1 0] [0] []", loses: true},
		{name: "both human kinds, one added", wipe: "password,recovery", adds: volume.Recovery, want: "[4 1 0] [0] []"},
		{name: "empty", wipe: "empty", want: "[4] [] []"},
		{name: "all", wipe: "all", want: "[6 5 4 3 2 1 0] [3 2 1 0] []", loses: true, err: volume.ErrLastSlot},
		{name: "all but one", wipe: "all", keep: []int{3}, want: "[6 5 4 2 1 0] [3 1 0] []", loses: true},
		{name: "all but one under a shared token", wipe: "all", keep: []int{6}, want: "[4 3 2 1 0] [2 1 0] []", loses: true},
		{name: "all, one added", wipe: "all", adds: volume.Password, want: "[6 5 4 3 2 1 0] [3 2 1 0] []"},
		{name: "missing", wipe: "9,2,30", want: "[2] [1] [9 30]"},
		{name: "keep wins", wipe: "1,2", keep: []int{2}, want: "[1] [0] []"},
	} {
		var s volume.Selection
		if err := s.ParseSelection(c.wipe); err != nil {
			t.Fatal(err)
		}
		s.Adds = c.adds
		plan, err := volume.PlanWipe(t.Context(), h, s, c.keep...)
		slots := []int{}
		for _, slot := range plan.Slots {
			slots = append(slots, slot.ID)
		}
		got := fmt.Sprint(slots, plan.Tokens, plan.Missing)
		if got != c.want || plan.LosesHuman != c.loses || !errors.Is(err, c.err) {
			t.Errorf("%s: %s, loses %t, %v", c.name, got, plan.LosesHuman, err)
		}
	}
}

// TestPlanWipeSharedSlots has slots that several tokens name, where the tokens
// are looked at by number: 1 foreign, 2 tpm2, 1 and 2 together fido2.
func TestPlanWipeSharedSlots(t *testing.T) {
	t.Parallel()
	_, h, key := newVolume(t)
	addSlot(t, h, key, "f", "clevis")
	addSlot(t, h, key, "t", "systemd-tpm2")
	if _, err := h.AddToken(json.RawMessage(`{"type":"systemd-fido2","keyslots":["1","2"]}`)); err != nil {
		t.Fatal(err)
	}
	for wipe, want := range map[string]string{
		"1":     "[] [0] [1]",
		"2":     "[] [1] [2]",
		"tpm2":  "[] [1] []",
		"fido2": "[2 1] [2 1 0] []",
		"1,2":   "[2 1] [2 1 0] []",
	} {
		var s volume.Selection
		if err := s.ParseSelection(wipe); err != nil {
			t.Fatal(err)
		}
		plan, err := volume.PlanWipe(t.Context(), h, s)
		slots := []int{}
		for _, slot := range plan.Slots {
			slots = append(slots, slot.ID)
		}
		if got := fmt.Sprint(slots, plan.Tokens, plan.Kept); err != nil || got != want {
			t.Errorf("%s: %s, %v", wipe, got, err)
		}
	}
}

// An unbound keyslot does not open the data: it is not what may be left over, and
// it is not meant by "all".
func TestPlanWipeUnbound(t *testing.T) {
	t.Parallel()
	_, h, _ := newVolume(t)
	other := secret.Random(32)
	t.Cleanup(other.Wipe)
	id, err := h.AddSlot(t.Context(), other, text(t, "stray"), luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal(), Unbound: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []volume.Selection{{All: true}, {Slots: []int{0}}, {Kinds: []volume.Kind{volume.Password}}} {
		plan, err := volume.PlanWipe(t.Context(), h, s)
		if !errors.Is(err, volume.ErrLastSlot) || len(plan.Slots) != 1 || !plan.LosesHuman {
			t.Errorf("%+v: %+v, %v", s, plan, err)
		}
	}
	plan, err := volume.PlanWipe(t.Context(), h, volume.Selection{Slots: []int{id}})
	if err != nil || len(plan.Slots) != 1 || plan.LosesHuman {
		t.Errorf("by number: %+v, %v", plan, err)
	}
}

func TestWipe(t *testing.T) {
	t.Parallel()
	s, h, key := newVolume(t)
	addSlot(t, h, key, "r", "systemd-recovery")
	plan, err := volume.PlanWipe(t.Context(), h, volume.Selection{Slots: []int{0}})
	if err != nil {
		t.Fatal(err)
	}
	// Somebody else writes between plan and wipe.
	other, err := luks2.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.SetPriority(1, luks2.PriorityPrefer), other.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := volume.Wipe(t.Context(), h, plan); !errors.Is(err, luks2.ErrChanged) {
		t.Errorf("wiped by an old plan: %v", err)
	}
	if plan, err = volume.PlanWipe(t.Context(), other, volume.Selection{Slots: []int{0}}); err != nil {
		t.Fatal(err)
	}
	if err := volume.Wipe(t.Context(), other, plan); err != nil {
		t.Fatal(err)
	}
	fresh, err := luks2.Open(t.Context(), s)
	if err != nil || len(fresh.Keyslots()) != 1 || fresh.Opens(t.Context(), 1, text(t, "r"), key) != nil {
		t.Errorf("after the wipe: %v", err)
	}
}

func TestUnlock(t *testing.T) {
	t.Parallel()
	_, h, key := newVolume(t)
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	keyFile := func(path string) volume.Method {
		return volume.KeyFile{Keyslot: luks2.AnySlot, Source: volume.KeySource{Path: path}}
	}
	good, bad := keyFile(file("good", "first")), keyFile(file("bad", "first\n"))
	absent := keyFile(filepath.Join(dir, "absent"))
	for _, c := range []struct {
		name    string
		methods []volume.Method
		ask     *script
		tries   int
		asked   int
		err     error
	}{
		{name: "typed", methods: []volume.Method{passphrase()}, ask: &script{answers: []string{"first"}}, tries: 3, asked: 1},
		{name: "second try", methods: []volume.Method{passphrase()}, ask: &script{answers: []string{"x", "first"}}, tries: 3, asked: 2},
		{name: "several answers", methods: []volume.Method{passphrase()}, ask: &script{answers: []string{"x|first"}}, tries: 1, asked: 1},
		{name: "too often", methods: []volume.Method{passphrase()}, ask: &script{answers: []string{"x", "y", "first"}}, tries: 2, asked: 2, err: volume.ErrTries},
		{name: "without end", methods: []volume.Method{passphrase()}, ask: &script{answers: []string{"a", "b", "c", "d", "first"}}, asked: 5},
		{name: "wrong in the environment", methods: []volume.Method{passphrase()}, ask: &script{answers: []string{"x", "first"}, from: volume.FromEnvironment}, tries: 3, asked: 1, err: luks2.ErrPassphrase},
		{name: "nobody there", methods: []volume.Method{passphrase()}, ask: &script{}, tries: 3, asked: 1, err: volume.ErrNoAnswer},
		{name: "silent first", methods: []volume.Method{passphrase(), good}, ask: &script{}, tries: 1},
		{name: "key file with newline, then typed", methods: []volume.Method{bad, passphrase()}, ask: &script{answers: []string{"first"}}, tries: 3, asked: 1},
		{name: "absent key file counts as a try", methods: []volume.Method{absent, passphrase()}, ask: &script{answers: []string{"x", "first"}}, tries: 2, asked: 1, err: volume.ErrTries},
		{name: "only a bad key file", methods: []volume.Method{bad}, ask: &script{}, tries: 3, err: luks2.ErrPassphrase},
		{name: "nothing", ask: &script{}, err: volume.ErrNoAnswer},
	} {
		got, err := volume.Unlock(t.Context(), h, c.methods, c.ask, volume.UnlockOptions{Tries: c.tries})
		if !errors.Is(err, c.err) || len(c.ask.asked) != c.asked {
			t.Errorf("%s: asked %d times, %v", c.name, len(c.ask.asked), err)
		}
		if c.err == nil && (got.Volume == nil || !got.Volume.Equal(key)) {
			t.Errorf("%s: another key", c.name)
		}
		got.Volume.Wipe()
	}
}

// TestUnlockTellsOnce reads what a person is told: each failure before the next
// attempt, and the reasons in the end.
func TestUnlockTellsOnce(t *testing.T) {
	t.Parallel()
	_, h, _ := newVolume(t)
	dir := t.TempDir()
	line := filepath.Join(dir, "line")
	if err := os.WriteFile(line, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keyFile := func(path string, slot int) volume.Method {
		return volume.KeyFile{Keyslot: slot, Source: volume.KeySource{Path: path}}
	}
	wrong := "no keyslot opens with this passphrase"
	for _, c := range []struct {
		name    string
		methods []volume.Method
		ask     *script
		tries   int
		told    []string
		err     string
	}{
		{"one try", []volume.Method{passphrase()}, &script{answers: []string{"x"}}, 1, nil, "passphrase: " + wrong},
		{"two tries", []volume.Method{passphrase()}, &script{answers: []string{"x", "y"}}, 2,
			[]string{"passphrase: " + wrong}, "passphrase: " + wrong + "; too many attempts"},
		{"environment", []volume.Method{passphrase()}, &script{answers: []string{"x"}, from: volume.FromEnvironment}, 3, nil,
			"passphrase: from $PASSWORD: " + wrong},
		{"key file", []volume.Method{keyFile(dir+"/none", luks2.AnySlot), keyFile(line, luks2.AnySlot)}, nil, 3,
			[]string{"key file none: no such file or directory"},
			"key file none: no such file or directory; key file line: " + wrong + "; it ends with a newline, which counts"},
		{"one keyslot", []volume.Method{keyFile(line, 0)}, nil, 1, nil,
			"key file line: keyslot 0 does not open with this passphrase; it ends with a newline, which counts"},
		{"empty", []volume.Method{volume.Empty{Keyslot: luks2.AnySlot}}, nil, 1, nil, "empty passphrase: " + wrong},
	} {
		var told []string
		short := func(err error) string { return strings.ReplaceAll(err.Error(), dir+"/", "") }
		_, err := volume.Unlock(t.Context(), h, c.methods, c.ask, volume.UnlockOptions{Tries: c.tries,
			Failed: func(_ string, err error) { told = append(told, short(err)) }})
		if err == nil || short(err) != c.err || !slices.Equal(told, c.told) {
			t.Errorf("%s: told %q, then %v", c.name, told, err)
		}
	}
}

// The key of an unbound keyslot opens nothing and would destroy what is written.
func TestUnlockRefusesUnboundKeys(t *testing.T) {
	t.Parallel()
	_, h, _ := newVolume(t)
	other := secret.Random(32)
	t.Cleanup(other.Wipe)
	id, err := h.AddSlot(t.Context(), other, text(t, "stray"), luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal(), Unbound: true})
	if err != nil {
		t.Fatal(err)
	}
	m := volume.Passphrase{Keyslot: id, Question: volume.Question{Message: "enter %s"}}
	got, err := volume.Unlock(t.Context(), h, []volume.Method{m}, &script{answers: []string{"stray"}}, volume.UnlockOptions{Tries: 1})
	if !errors.Is(err, luks2.ErrUnsupported) || got.Volume != nil {
		t.Errorf("unbound keyslot: %v", err)
	}
}

func TestPromptSaysWhatIsThere(t *testing.T) {
	t.Parallel()
	_, h, key := newVolume(t)
	prompt := func() string {
		s := &script{}
		_, _ = volume.Unlock(t.Context(), h, []volume.Method{passphrase()}, s, volume.UnlockOptions{Tries: 1})
		if len(s.asked) == 0 {
			return ""
		}
		return s.asked[0].Message
	}
	if got := prompt(); got != "enter passphrase" {
		t.Error(got)
	}
	addSlot(t, h, key, "r", "systemd-recovery")
	if got := prompt(); got != "enter passphrase or recovery key" {
		t.Error(got)
	}
	if err := errors.Join(h.RemoveSlot(0), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := prompt(); got != "enter recovery key" {
		t.Error(got)
	}
	addSlot(t, h, key, "t", "systemd-tpm2")
	if err := errors.Join(h.RemoveSlot(1), h.RemoveToken(0), h.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got := prompt(); got != "" {
		t.Errorf("asked for what can't be there: %s", got)
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	_, h, key := newVolume(t)
	if volume.HasKeyring(h) {
		t.Error("a keyring token out of nowhere")
	}
	if _, err := h.AddToken(luks2.KeyringToken("disk", 0)); err != nil {
		t.Fatal(err)
	}
	lookup := func(content string) volume.Method {
		return volume.Keyring{Keyslot: luks2.AnySlot, Lookup: func(name string) (*secret.Bytes, error) {
			if name != "disk" {
				t.Errorf("looked up %q", name)
			}
			if content == "" {
				return nil, errors.New("no such key")
			}
			return secret.Copy([]byte(content)), nil
		}}
	}
	got, err := volume.Unlock(t.Context(), h, []volume.Method{lookup("first")}, &script{}, volume.UnlockOptions{Tries: 1})
	if err != nil || !got.Volume.Equal(key) || !volume.HasKeyring(h) {
		t.Errorf("keyring: %v", err)
	}
	got.Volume.Wipe()
	for _, content := range []string{"", "wrong"} {
		got, err := volume.Unlock(t.Context(), h, []volume.Method{lookup(content), passphrase()}, &script{answers: []string{"first"}}, volume.UnlockOptions{Tries: 3})
		if err != nil {
			t.Errorf("after key %q: %v", content, err)
		}
		got.Volume.Wipe()
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ token, want string }{
		{`{"type":"systemd-tpm2","tpm2-pcrs":[0,7],"tpm2-pcr-bank":"sha256","tpm2-pin":true}`, "PCR 0+7 (sha256), PIN"},
		{`{"type":"systemd-tpm2","tpm2-pcrs":[],"tpm2_pubkey_pcrs":[11],"tpm2_pcrlock":true}`, "signed policy for PCR 11, pcrlock"},
		{`{"type":"systemd-tpm2","tpm2-pcrs":[]}`, "binds to nothing but the TPM"},
		{`{"type":"systemd-fido2","fido2-clientPin-required":true,"fido2-up-required":true,"fido2-uv-required":false}`, "PIN, touch"},
		{`{"type":"systemd-pkcs11","pkcs11-uri":"pkcs11:token=a"}`, "pkcs11:token=a"},
		{`{"type":"systemd-pkcs11","pkcs11-uri":"pkcs11:` + strings.Repeat("a", 100) + `"}`, "pkcs11:" + strings.Repeat("a", 100)},
		{`{"type":"systemd-pkcs11","pkcs11-uri":"` + strings.Repeat("a", 300) + `"}`, `"` + strings.Repeat("a", 256) + `"`},
		{`{"type":"systemd-pkcs11","pkcs11-uri":"\u001b[31mred"}`, `"\x1b[31mred"`},
		{`{"type":"systemd-tpm2","tpm2-pcrs":"odd"}`, ""},
		{`{"type":"clevis"}`, ""},
	} {
		var head struct{ Type string }
		if err := json.Unmarshal([]byte(c.token), &head); err != nil {
			t.Fatal(err)
		}
		if got := volume.Policy(luks2.Token{Type: head.Type, JSON: json.RawMessage(c.token)}); got != c.want {
			t.Errorf("%s: %q", c.token, got)
		}
	}
}
