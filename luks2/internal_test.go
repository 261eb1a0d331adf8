package luks2

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/lockport/lockport/secret"
)

// FuzzAF splits and merges keys of every size.
func FuzzAF(f *testing.F) {
	hashes := []string{"sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-512"}
	for i := range hashes {
		for _, n := range []int{1, 16, 20, 31, 32, 33, 64, 65, 512} {
			f.Add(bytes.Repeat([]byte{byte(n)}, n), i)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, name int) {
		if len(content) == 0 || len(content) > maxKeySize || name < 0 {
			t.Skip()
		}
		newHash, err := hashNamed(hashes[name%len(hashes)])
		if err != nil {
			t.Fatal(err)
		}
		key := secret.Copy(content)
		defer key.Wipe()
		split := afSplit(key, newHash)
		defer split.Wipe()
		if split.Len() != len(content)*afStripes {
			t.Fatalf("%d bytes of stripes for a key of %d", split.Len(), len(content))
		}
		merged := afMerge(split, len(content), newHash)
		defer merged.Wipe()
		if !merged.Equal(key) {
			t.Error("splitting and merging gave another key")
		}
		// Any bit that is lost loses the key.
		split.Reveal()[split.Len()/3] ^= 1
		other := afMerge(split, len(content), newHash)
		defer other.Wipe()
		if len(content) > 15 && other.Equal(key) {
			t.Error("the key came back from changed stripes")
		}
	})
}

// FuzzEdit changes one member of any object and compares the others.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(`{"keyslots":{"0":{"a/b":[1e3,"\u00fc"]}},"x":null}`), "keyslots", []byte(`{}`))
	f.Add([]byte(`{ "a" : 1 , "b" : "\ud83d\ude00" }`), "c", []byte(`[true]`))
	f.Add([]byte(`{"<&>":"<&>","":{}}`), "", []byte(`"\u2028"`))
	f.Add([]byte(`{}`), "x", []byte(`{`))
	f.Fuzz(func(t *testing.T, doc []byte, name string, value []byte) {
		before, err := parseTree(doc)
		if err != nil {
			return
		}
		after, err := edit(doc, value, name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseTree(after)
		if err != nil {
			if json.Valid(value) && checkTree(after) == nil {
				t.Errorf("%s became %s: %v", doc, after, err)
			}
			return
		}
		if len(value) > 0 && !bytes.Equal(got.get(name), bytes.TrimSpace(value)) && json.Valid(marshal(name)) && isText(name) {
			t.Errorf("member %q is %s, want %s", name, got.get(name), value)
		}
		compareOthers(t, before, got, name)
		gone, err := edit(after, nil, name)
		if err != nil {
			t.Fatal(err)
		}
		left, err := parseTree(gone)
		if err != nil || left.get(name) != nil {
			t.Errorf("removing %q left %s, %v", name, gone, err)
		}
		compareOthers(t, before, left, name)
	})
}

func isText(s string) bool {
	var back string
	return json.Unmarshal(marshal(s), &back) == nil && back == s
}

func parseTree(doc []byte) (object, error) {
	if err := checkTree(doc); err != nil {
		return nil, err
	}
	return parseObject(doc)
}

// compareOthers wants the members but for one to be the same text in the same
// order.
func compareOthers(t *testing.T, a, b object, name string) {
	t.Helper()
	a, b = a.with(name, nil), b.with(name, nil)
	if len(a) != len(b) {
		t.Fatalf("%d other members became %d", len(a), len(b))
	}
	for i := range a {
		if a[i].key != b[i].key || !bytes.Equal(a[i].raw, b[i].raw) {
			t.Errorf("member %q: %s became %q: %s", a[i].key, a[i].raw, b[i].key, b[i].raw)
		}
	}
}
