package luks2

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"testing"

	"github.com/lockport/lockport/secret"
)

// TestPBKDF2 compares with the library's.
func TestPBKDF2(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sha1", "sha256", "sha512", "sha3-256"} {
		newHash, err := hashNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 20, 32, 33, 64, 128, 200} {
			for _, iterations := range []uint32{1, 2, 1000} {
				k := KDF{Type: PBKDF2, Hash: name, Iterations: iterations, Salt: newSalt()}
				pass := secret.Random(n)
				got, err := k.derive(t.Context(), pass, n)
				want, errLib := pbkdf2.Key(newHash, string(pass.Reveal()), k.Salt, int(iterations), n)
				if err != nil || errLib != nil || !bytes.Equal(got.Reveal(), want) {
					t.Errorf("%s, %d bytes, %d iterations: differs, %v, %v", name, n, iterations, err, errLib)
				}
				got.Wipe()
				pass.Wipe()
			}
		}
	}
}

func BenchmarkPBKDF2(b *testing.B) {
	pass := secret.Random(20)
	defer pass.Wipe()
	k := KDF{Type: PBKDF2, Hash: "sha256", Iterations: 100_000, Salt: newSalt()}
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			key, err := k.derive(b.Context(), pass, 32)
			if err != nil {
				b.Fatal(err)
			}
			key.Wipe()
		}
	})
	b.Run("library", func(b *testing.B) {
		for b.Loop() {
			if _, err := pbkdf2.Key(sha256.New, string(pass.Reveal()), k.Salt, int(k.Iterations), 32); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// FuzzAF splits and merges keys of every size.
func FuzzAF(f *testing.F) {
	hashes := []string{"sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-512"}
	for i := range hashes {
		for _, n := range []int{1, 20, 33} {
			f.Add(bytes.Repeat([]byte{byte(n)}, n), i)
		}
	}
	f.Add(make([]byte, maxKeySize), 2)
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
	f.Add([]byte(`{}`), "x", []byte(`0`))
	f.Fuzz(func(t *testing.T, doc []byte, name string, value []byte) {
		before, err := parseTree(doc)
		// Values come from marshal, or were looked at by their setter.
		if err != nil || !json.Valid(value) || !isText(name) {
			return
		}
		after, err := edit(doc, value, name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseTree(after)
		if err != nil {
			// Too deep, or twice the same member in value.
			if checkTree(after) == nil {
				t.Errorf("%s became %s: %v", doc, after, err)
			}
			return
		}
		if !bytes.Equal(got.get(name), bytes.TrimSpace(value)) {
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
