package ask

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/secret/secrettest"
	"github.com/lockport/lockport/volume"
)

func TestMain(m *testing.M) { secrettest.Main(m) }

// texts returns what is in an answer, which it wipes.
func texts(secrets []*secret.Bytes) []string {
	defer secret.WipeAll(secrets)
	list := []string{}
	for _, s := range secrets {
		list = append(list, string(s.Reveal()))
	}
	return list
}

func writeCredential(t *testing.T, directory, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func env(values map[string]string) func(string) (*secret.Bytes, bool) {
	return func(name string) (*secret.Bytes, bool) {
		value, found := values[name]
		delete(values, name)
		if !found {
			return nil, false
		}
		return secret.From([]byte(value)), true
	}
}

func cacheOf(values map[string]string) Cache {
	return Cache{
		Get: func(name string) (*secret.Bytes, error) {
			value, found := values[name]
			if !found {
				return nil, errors.New("no such key")
			}
			return secret.From([]byte(value)), nil
		},
		Put: func(name string, payload *secret.Bytes, timeout time.Duration) error {
			values[name] = string(payload.Reveal())
			values[name+" timeout"] = timeout.String()
			return nil
		},
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	writeCredential(t, directory, "c.pass", "from credential\x00another\x00")
	writeCredential(t, directory, "c.empty", "")
	full := volume.Question{Message: "m", Env: "PASSWORD", Credential: "c.pass", Cache: "shared"}
	without := func(change func(*volume.Question)) volume.Question { q := full; change(&q); return q }
	tests := map[string]struct {
		q    volume.Question
		want []string
		from volume.Source
	}{
		"environment first":   {full, []string{"from env"}, volume.FromEnvironment},
		"then credential":     {without(func(q *volume.Question) { q.Env = "" }), []string{"from credential", "another"}, volume.FromCredential},
		"variable not there":  {without(func(q *volume.Question) { q.Env = "OTHER" }), []string{"from credential", "another"}, volume.FromCredential},
		"empty variable":      {without(func(q *volume.Question) { q.Env = "EMPTY" }), []string{""}, volume.FromEnvironment},
		"then cache":          {without(func(q *volume.Question) { q.Env, q.Credential = "", "c.none" }), []string{"from cache", "two"}, volume.FromCache},
		"empty credential":    {without(func(q *volume.Question) { q.Env, q.Credential = "", "c.empty" }), []string{"from cache", "two"}, volume.FromCache},
		"no cache to confirm": {without(func(q *volume.Question) { q.Env, q.Credential, q.Confirm = "", "", "again" }), nil, 0},
		"nobody":              {without(func(q *volume.Question) { q.Env, q.Credential, q.Cache = "", "", "" }), nil, 0},
		"not in the cache":    {without(func(q *volume.Question) { q.Env, q.Credential, q.Cache = "", "", "x" }), nil, 0},
		"second attempt":      {without(func(q *volume.Question) { q.Attempt = 1 }), nil, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, headless := range []bool{true, false} {
				asker := New(Config{
					TakeEnv:     env(map[string]string{"PASSWORD": "from env", "EMPTY": ""}),
					Credentials: directory,
					Cache:       cacheOf(map[string]string{"shared": "from cache\x00two"}),
					Headless:    headless,
				})
				answer, err := asker.Ask(t.Context(), test.q)
				if test.want == nil {
					if !errors.Is(err, volume.ErrNoAnswer) || answer.Secrets != nil {
						t.Errorf("got %v", err)
					}
					continue
				}
				if diff := cmp.Diff(test.want, texts(answer.Secrets)); err != nil || diff != "" || answer.From != test.from {
					t.Errorf("from %v, %v, -want +got:\n%s", answer.From, err, diff)
				}
			}
		})
	}
}

func TestZeroAsker(t *testing.T) {
	t.Parallel()
	var asker Asker
	q := volume.Question{Env: "HOME", Credential: "x", Cache: "y"}
	if _, err := asker.Ask(t.Context(), q); !errors.Is(err, volume.ErrNoAnswer) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := asker.Ask(ctx, q); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestHeadlessNeverOpensTheTerminal(t *testing.T) {
	t.Parallel()
	asker := New(Config{Headless: true, Agents: t.TempDir(), Terminal: func() (*os.File, error) {
		t.Error("opened")
		return nil, nil
	}})
	_, err := asker.Ask(t.Context(), volume.Question{Message: "m"})
	if !errors.Is(err, volume.ErrNoAnswer) || !strings.Contains(err.Error(), "switched off") {
		t.Errorf("got %v", err)
	}
}

func TestTakeEnv(t *testing.T) {
	t.Setenv("LOCKPORT_TEST_SECRET", "swordfish")
	s, found := TakeEnv("LOCKPORT_TEST_SECRET")
	if !found || string(s.Reveal()) != "swordfish" {
		t.Errorf("got %v", found)
	}
	s.Wipe()
	if value, found := os.LookupEnv("LOCKPORT_TEST_SECRET"); found {
		t.Errorf("still there: %q", value)
	}
	if _, found := TakeEnv("LOCKPORT_TEST_SECRET"); found {
		t.Error("taken twice")
	}
}

func TestBadCredentials(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	writeCredential(t, directory, "long", strings.Repeat("x", maxCredential+1))
	writeCredential(t, directory, "many", strings.Repeat("x\x00y\x00", 10)+manyAnswers(maxAnswers))
	if err := os.Mkdir(filepath.Join(directory, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(directory, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	writeCredential(t, outside, "secret", "x")
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(directory, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"long", "many", "directory", "pipe", "link", "../secret", "a/b"} {
		q := volume.Question{Credential: name}
		answer, err := New(Config{Credentials: directory}).Ask(t.Context(), q)
		if err == nil || errors.Is(err, volume.ErrNoAnswer) || answer.Secrets != nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	q := volume.Question{Credential: "x"}
	if _, err := New(Config{Credentials: directory + "/none"}).Ask(t.Context(), q); !errors.Is(err, volume.ErrNoAnswer) {
		t.Errorf("no directory: %v", err)
	}
}

// manyAnswers returns n different answers, each with a NUL.
func manyAnswers(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat("z", i+1) + "\x00")
	}
	return b.String()
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for list, want := range map[string][]string{
		"":                                {},
		"a":                               {"a"},
		"a\n":                             {"a\n"},
		"a\x00":                           {"a"},
		"a\x00b":                          {"a", "b"},
		"a\x00b\x00":                      {"a", "b"},
		"a\x00b\x00a":                     {"a", "b"},
		"\x00":                            {""},
		"\x00\x00":                        {""},
		"a\x00\x00b":                      {"a", "", "b"},
		strings.Repeat("a\x00", 1000):     {"a"},
		manyAnswers(maxAnswers)[:2]:       {"z"},
		"x" + strings.Repeat("\x00x", 65): {"x"},
	} {
		secrets, err := split([]byte(list))
		if diff := cmp.Diff(want, texts(secrets)); err != nil || diff != "" {
			t.Errorf("%q: %v, -want +got:\n%s", list, err, diff)
		}
	}
	secrets, err := split([]byte(manyAnswers(maxAnswers)))
	if len(texts(secrets)) != maxAnswers || err != nil {
		t.Errorf("the most alternatives: %v", err)
	}
	if secrets, err := split([]byte(manyAnswers(maxAnswers + 1))); err == nil || secrets != nil {
		t.Error("no bound")
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	typed := func(list ...string) []*secret.Bytes {
		var secrets []*secret.Bytes
		for _, text := range list {
			secrets = append(secrets, secret.From([]byte(text)))
		}
		return secrets
	}
	tests := map[string]struct {
		before, after string
		typed         []string
	}{
		"first":              {"", "new", []string{"new"}},
		"another":            {"old", "old\x00new", []string{"new"}},
		"known":              {"old\x00new", "old\x00new", []string{"new"}},
		"several":            {"a", "a\x00b\x00c", []string{"b", "a", "c"}},
		"cannot be joined":   {"a", "a", []string{"b\x00c"}},
		"too many":           {strings.TrimSuffix(manyAnswers(maxAnswers), "\x00"), "new", []string{"new"}},
		"too long":           {"a", "a", []string{strings.Repeat("x", maxCached)}},
		"empty with another": {"a", "a\x00", []string{""}},
	}
	for name, test := range tests {
		values := map[string]string{}
		if test.before != "" {
			values["k"] = test.before
		}
		answer := volume.Answer{Secrets: typed(test.typed...)}
		New(Config{Cache: cacheOf(values)}).share(volume.Question{Cache: "k"}, answer)
		answer.Wipe()
		if values["k"] != test.after {
			t.Errorf("%s: got %q, want %q", name, values["k"], test.after)
		}
		if timeout := values["k timeout"]; timeout != "" && timeout != "2m30s" {
			t.Errorf("%s: kept for %s", name, timeout)
		}
	}
	answer := volume.Answer{Secrets: typed("new")}
	defer answer.Wipe()
	values := map[string]string{"k": "old"}
	readOnly := cacheOf(values)
	readOnly.Put = nil
	New(Config{Cache: readOnly}).share(volume.Question{Cache: "k"}, answer)
	writeOnly := cacheOf(values)
	writeOnly.Get, writeOnly.For = nil, time.Minute
	New(Config{Cache: writeOnly}).share(volume.Question{}, answer)
	if values["k"] != "old" {
		t.Errorf("got %q", values["k"])
	}
	New(Config{Cache: writeOnly}).share(volume.Question{Cache: "k"}, answer)
	if values["k"] != "new" || values["k timeout"] != "1m0s" {
		t.Errorf("got %q for %s", values["k"], values["k timeout"])
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"":                        ":",
		"Enter PIN":               "Enter PIN:",
		"Enter PIN: ":             "Enter PIN:",
		"Sure?":                   "Sure?",
		"a\nb\tc\x00\x7f":         "a?b?c??",
		"Größe „x“":               "Größe „x“:",
		strings.Repeat("ü", 1000): strings.Repeat("ü", maxText) + "...:",
	} {
		if got := prompt(message); got != want {
			t.Errorf("%q: got %q", message, got)
		}
	}
	if got := verificationID("cryptsetup:/dev/sda"); got != "cryptsetup-verification:/dev/sda" {
		t.Error(got)
	}
	if got := verificationID("x"); got != "x" {
		t.Error(got)
	}
}

// FuzzEditor types anything at all.
func FuzzEditor(f *testing.F) {
	f.Add([]byte("ab\x7f\x15\xe2\x82\xacx y\x17\tz\n"), 0)
	f.Add([]byte("\xcd\xcd\xcd\xd0\xdb\x1a\x1a\x1a"), 60)
	f.Add([]byte("\x7f\x7fabc\xff\xfe\b\b\b\b"), 2)
	f.Fuzz(func(t *testing.T, typed []byte, echo int) {
		var screen bytes.Buffer
		e := newEditor(&screen, "p:", volume.Echo(echo), "*", keys{interrupt: 3, quit: 28, suspend: 26, eof: 4, erase: 127, kill: 21, word: 23})
		defer func() { e.line.Wipe() }()
		for _, c := range typed {
			e.slot()[0] = c
			if what := e.press(); what == suspend {
				e.draw()
			} else if what != goOn {
				break
			}
			if e.shown > e.n || e.n > maxTyped || e.n-e.shown >= 4 {
				t.Fatalf("%q: %d of %d bytes shown", typed, e.shown, e.n)
			}
		}
		if bytes.Contains(bytes.ReplaceAll(screen.Bytes(), []byte(saySilent), nil), []byte{0x1b}) {
			t.Fatalf("%q: an escape sequence on the screen: %q", typed, screen.Bytes())
		}
		n := e.n
		if line, err := e.finish(); err == nil {
			if line.Len() != n {
				t.Errorf("%q: %d bytes, want %d", typed, line.Len(), n)
			}
			line.Wipe()
		}
	})
}
