package portable

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The cases follow systemd.syntax(7) and what systemd 257 made of such files.
func TestParseUnitFile(t *testing.T) {
	t.Parallel()
	set := func(section, key, value string, line int) setting {
		return setting{section: section, key: key, value: value, line: line}
	}
	for name, c := range map[string]struct {
		text string
		want []setting
		bad  []flaw
	}{
		"plain":            {text: "[Service]\nA=b\n", want: []setting{set("Service", "A", "b", 2)}},
		"white space":      {text: "  [Service]  \n\tA =\t b c \n", want: []setting{set("Service", "A", "b c", 2)}},
		"comments":         {text: "# x\n; y\n[Service]\n  # A=b\nA=b # c\n", want: []setting{set("Service", "A", "b # c", 5)}},
		"empty value":      {text: "[Service]\nA=\n", want: []setting{set("Service", "A", "", 2)}},
		"two assignments":  {text: "[Service]\nA=b=c\n", want: []setting{set("Service", "A", "b=c", 2)}},
		"joined":           {text: "[Service]\nA=b \\\n  c\\\nd\nE=f", want: []setting{set("Service", "A", "b  c d", 2), set("Service", "E", "f", 5)}},
		"joined, comment":  {text: "[Service]\nA=b\\\n# x\\\n;y\n c\nE=f", want: []setting{set("Service", "A", "b c", 2), set("Service", "E", "f", 6)}},
		"joined, empty":    {text: "[Service]\nA=b\\\n\nE=f", want: []setting{set("Service", "A", "b", 2), set("Service", "E", "f", 4)}},
		"joined, end":      {text: "[Service]\nA=b\\", want: []setting{set("Service", "A", "b", 2)}},
		"not joined":       {text: "[Service]\nA=b\\\\\nE=f", want: []setting{set("Service", "A", `b\\`, 2), set("Service", "E", "f", 3)}},
		"line ends":        {text: "[Service]\r\nA=b\r\nC=d\r", want: []setting{set("Service", "A", "b", 2), set("Service", "C", "d", 3)}},
		"byte order mark":  {text: "\uFEFF[Service]\nA=b", want: []setting{set("Service", "A", "b", 2)}},
		"section of other": {text: "[X-Me]\nA=b\nnonsense\n[Service]\nC=d", want: []setting{set("Service", "C", "d", 5)}},
		"unknown section":  {text: "[Sevice]\nA=b\n[Service]\nC=d", want: []setting{set("Service", "C", "d", 4)}, bad: []flaw{{1, "there is no section [Sevice] here", false}}},
		"before a section": {text: "A=b\n[Service]\n", bad: []flaw{{1, "it stands before the first section", false}}},
		"no assignment":    {text: "[Service]\nA b\n=c\n", bad: []flaw{{2, `"A b" is no assignment`, false}, {3, "the name of the setting is missing", false}}},
		"section, no end":  {text: "[Service\nA=b\n", bad: []flaw{{1, "the name of a section has no ] at its end", true}}},
		"no UTF-8":         {text: "[Service]\nA=\xff\nB=c", want: []setting{set("Service", "B", "c", 3)}, bad: []flaw{{2, "it is not UTF-8", false}}},
		"nothing":          {text: "\n\\\n\n"},
	} {
		u := parseUnitFile([]byte(c.text), "Unit", "Service")
		if diff := cmp.Diff(c.want, u.settings, cmp.AllowUnexported(setting{})); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if diff := cmp.Diff(c.bad, u.flaws, cmp.AllowUnexported(flaw{})); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	many := parseUnitFile([]byte("[Service]\n"+strings.Repeat("a=b\n", maxSettings+2)), "Service")
	if len(many.settings) != maxSettings || len(many.flaws) != 1 || !many.flaws[0].fatal {
		t.Errorf("%d settings, %v", len(many.settings), many.flaws)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := settings(parseUnitFile([]byte("[S]\nL=1\nL=\nL=2\nL=3\nB=on\nB=no\nC=nonsense\nE=x\nE=\n[T]\nL=4"), "S", "T").settings)
	var list []string
	for _, v := range s.all("S", "L") {
		list = append(list, v.value)
	}
	if diff := cmp.Diff([]string{"2", "3"}, list); diff != "" {
		t.Error(diff)
	}
	if v, ok := s.last("S", "L"); !ok || v.value != "3" {
		t.Error(v)
	}
	if v, ok := s.last("S", "E"); ok {
		t.Error(v)
	}
	if s.isTrue("S", "B", true) || !s.isTrue("S", "C", true) || s.isTrue("S", "C", false) || !s.isTrue("S", "Z", true) {
		t.Error("booleans")
	}
}

func TestSplitWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                    nil,
		" a  b\tc ":           {"a", "b", "c"},
		`"a b" 'c "d'`:        {"a b", `c "d`},
		`a"b c"d`:             {"ab cd"},
		`""`:                  {""},
		`a\ b`:                {`a\ b`},
		`a\sb \x41\102`:       {"a b", "AB"},
		`"a\"b" 'c\'d'`:       {`a"b`, "c'd"},
		`\u00e4\U0001f600 \n`: {"ä😀", "\n"},
		`a\qb \x4 \x00`:       {`a\qb`, `\x4`, `\x00`},
		`\ud800`:              {`\ud800`},
		`ä \ä`:                {"ä", `\ä`},
	} {
		have, err := splitWords(text)
		if diff := cmp.Diff(want, have); diff != "" || err != nil {
			t.Errorf("%q: %v\n%s", text, err, diff)
		}
	}
	for text, want := range map[string]error{`"a`: errQuote, `a 'b c`: errQuote, `a\`: errEscape, `"\`: errEscape} {
		if have, err := splitWords(text); err != want {
			t.Errorf("%q: %q, %v", text, have, err)
		}
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, unit, want string
		known            bool
		strange          string
	}{
		{"/%%/%S/%t", "web.service", "/%//var/lib//run", true, ""},
		{"%n %N %p %i", "web@a-b.service", "web@a-b.service web@a-b web a-b", true, ""},
		{"%I %j %J", `a-b\x2dc@d-e.service`, `d/e b\x2dc b-c`, true, ""},
		{"%p/%i", "web@.service", "web/x", false, ""},
		{"%n", "web@.service", "x", false, ""},
		{"/%H/%m", "web.service", "/x/x", false, ""},
		{"%z%20%-%", "web.service", "%z%20%-%", true, "z2"},
	} {
		e := expand(c.text, c.unit)
		if e.text != c.want || e.known != c.known || string(e.strange) != c.strange {
			t.Errorf("%q in %s: %+v", c.text, c.unit, e)
		}
	}
}

func TestCommandsOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]command{
		"/a b":                 {{path: "/a"}},
		"-@/a b":               {{path: "/a", optional: true}},
		":+/a":                 {{path: "/a", root: true}},
		"!!-/a":                {{path: "/a", root: true, optional: true}},
		"|/a b":                {{path: "/a", shell: true}},
		"/a b ; /c ;":          {{path: "/a"}, {path: "/c"}},
		`sh -c "a ; b" \; x`:   {{path: "sh"}},
		`/a ";" ';b' ;c ; "d"`: {{path: "/a"}, {path: "d"}},
		`"/a b" c`:             {{path: "/a b"}},
		"":                     nil,
	} {
		have, err := commandsOf(text)
		if diff := cmp.Diff(want, have, cmp.AllowUnexported(command{})); diff != "" || err != nil {
			t.Errorf("%q: %v\n%s", text, err, diff)
		}
	}
}

func FuzzUnitFile(f *testing.F) {
	f.Add([]byte("[Service]\nExecStart=-/usr/bin/a \"b c\" \\\n# x\n %i\\x20\nA=\n[X-y]\n"), "web@.service")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		if len(text) > maxUnit {
			return
		}
		u := parseUnitFile(text, "Unit", "Service")
		if len(u.settings) > maxSettings {
			t.Error("too many settings")
		}
		for _, s := range u.settings {
			if s.section != "Unit" && s.section != "Service" || s.key == "" || s.line < 1 || strings.ContainsAny(s.key+s.value, "\n\r") {
				t.Errorf("%+v", s)
			}
			words, err := splitWords(s.value)
			if (err != nil) && words != nil {
				t.Errorf("%q with %v", words, err)
			}
			list, err := commandsOf(s.value)
			if err == nil && len(list) > len(words) {
				t.Errorf("%q: %+v", s.value, list)
			}
			if e := expand(s.value, name); !strings.Contains(s.value, "%") && e.text != s.value {
				t.Errorf("%q became %q", s.value, e.text)
			}
		}
	})
}
