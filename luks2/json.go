package luks2

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of the JSON area, plain values included: json-c,
// and so libcryptsetup, reads no deeper.
const maxDepth = 32

// An object is one level of JSON whose members keep their order and text, so
// that what we don't know survives a rewrite.
type object []member

type member struct {
	key string
	raw json.RawMessage
}

// checkTree refuses JSON that two readers could understand differently: text
// that is no UTF-8, members given twice or cut short in C, or nesting beyond
// maxDepth.
func checkTree(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("text is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := checkValue(dec, 0); err != nil {
		return err
	}
	if dec.InputOffset() != int64(len(bytes.TrimRight(text, " \t\r\n"))) {
		return errors.New("more text after the end of the object")
	}
	return nil
}

func checkValue(dec *json.Decoder, depth int) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	if depth == maxDepth {
		return fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	seen := map[string]bool{}
	for dec.More() {
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			if strings.ContainsRune(name, 0) {
				return fmt.Errorf("member %q contains a NUL, where C would end it", name)
			}
			if seen[name] {
				return fmt.Errorf("member %q is given twice", name)
			}
			seen[name] = true
		}
		if err := checkValue(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// parseObject splits one level. The text has passed checkTree.
func parseObject(raw []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if token != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	o := object{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		name, _ := key.(string)
		o = append(o, member{name, value})
	}
	_, err = dec.Token()
	return o, err
}

func (o object) get(key string) json.RawMessage {
	for _, m := range o {
		if m.key == key {
			return m.raw
		}
	}
	return nil
}

// with returns the object with one member replaced, appended, or, for a nil
// value, removed. The receiver is left as it is.
func (o object) with(key string, value json.RawMessage) object {
	out := make(object, 0, len(o)+1)
	done := value == nil
	for _, m := range o {
		if m.key == key {
			if value == nil {
				continue
			}
			m.raw, done = value, true
		}
		out = append(out, m)
	}
	if !done {
		out = append(out, member{key, value})
	}
	return out
}

func (o object) text() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(marshal(m.key))
		b.WriteByte(':')
		b.Write(m.raw)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// edit returns raw with the member at path set to value, or removed where
// value is nil. All members on the way there must exist.
func edit(raw, value json.RawMessage, path ...string) (json.RawMessage, error) {
	o, err := parseObject(raw)
	if err != nil {
		return nil, err
	}
	if len(path) > 1 {
		inner := o.get(path[0])
		if inner == nil {
			return nil, fmt.Errorf("member %q is missing", path[0])
		}
		if value, err = edit(inner, value, path[1:]...); err != nil {
			return nil, err
		}
	}
	return o.with(path[0], value).text(), nil
}

// marshal is json.Marshal without the escapes that are only of use in HTML.
// Its arguments are our own types, which always marshal.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("luks2: " + err.Error())
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// A node reads the members of one object and remembers the first problem of
// the whole document, named by its path.
type node struct {
	path  string
	obj   object
	first *error
}

func (n node) fail(key, problem string, args ...any) {
	if *n.first == nil {
		*n.first = fmt.Errorf("%s: %s", n.at(key), fmt.Sprintf(problem, args...))
	}
}

func (n node) at(key string) string {
	switch {
	case n.path == "":
		return key
	case key == "":
		return n.path
	}
	return n.path + "." + key
}

func (n node) has(key string) bool { return n.obj.get(key) != nil }

func (n node) child(key string) node {
	c := node{path: n.at(key), first: n.first}
	raw := n.obj.get(key)
	if raw == nil {
		n.fail(key, "is missing")
		return c
	}
	obj, err := parseObject(raw)
	if err != nil {
		n.fail(key, "is not an object")
	}
	c.obj = obj
	return c
}

func (n node) decode(key string, into any, kind string) {
	raw := n.obj.get(key)
	if raw == nil {
		n.fail(key, "is missing")
		return
	}
	if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, into) != nil {
		n.fail(key, "is not %s", kind)
	}
}

func (n node) str(key string) (s string) {
	n.decode(key, &s, "a string")
	return s
}

// count reads a small number: a JSON integer from lowest to 2^31-1.
func (n node) count(key string, lowest int64) int {
	var i int64
	n.decode(key, &i, "an integer")
	if i < lowest || i > math.MaxInt32 {
		n.fail(key, "%d is out of range", i)
		return int(lowest)
	}
	return int(i)
}

// count32 reads an unsigned 32-bit number, as the KDF costs are.
func (n node) count32(key string) uint32 {
	var i uint32
	n.decode(key, &i, "a 32-bit number")
	return i
}

// offset reads a 64-bit number, which LUKS2 writes as a decimal string, and
// which must be a multiple of unit.
func (n node) offset(key string, unit int64) int64 {
	i, ok := parseDecimal(n.str(key))
	if !ok {
		n.fail(key, "is not a decimal number in a string")
		return 0
	}
	if i%unit != 0 {
		n.fail(key, "%d is not a multiple of %d", i, unit)
	}
	return i
}

func parseDecimal(s string) (int64, bool) {
	if s == "" || len(s) > 19 || (len(s) > 1 && s[0] == '0') {
		return 0, false
	}
	u, err := strconv.ParseUint(s, 10, 63)
	return int64(u), err == nil
}

func (n node) base64(key string) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(n.str(key))
	if err != nil {
		n.fail(key, "is not base64")
	}
	return b
}

// ids reads an array of object names, each a decimal string below limit and
// none twice.
func (n node) ids(key string, limit int) []int {
	var names []string
	n.decode(key, &names, "an array of strings")
	ids := make([]int, 0, len(names))
	seen := map[int]bool{}
	for _, name := range names {
		id, ok := parseID(name, limit)
		if !ok || seen[id] {
			n.fail(key, "%q is not a valid or is a repeated number", name)
			return nil
		}
		seen[id] = true
		ids = append(ids, id)
	}
	return ids
}

func (n node) strs(key string) (list []string) {
	if n.has(key) {
		n.decode(key, &list, "an array of strings")
	}
	return list
}

// parseID reads the name of a keyslot, token, segment or digest.
func parseID(name string, limit int) (int, bool) {
	i, ok := parseDecimal(name)
	return int(i), ok && i < int64(limit)
}

// each calls visit for every member of a section in the order of the text.
func (n node) each(section string, limit int, visit func(id int, n node)) {
	list := n.child(section)
	for _, m := range list.obj {
		id, ok := parseID(m.key, limit)
		if !ok {
			list.fail(m.key, "is not a number below %d", limit)
			return
		}
		visit(id, list.child(m.key))
	}
}

// Members reads the members of a token that is not longer than limit, in bytes. Their
// values are left as they are.
func Members(token json.RawMessage, limit int) (map[string]json.RawMessage, error) {
	if len(token) > limit {
		return nil, fmt.Errorf("%d bytes of JSON", len(token))
	}
	var members map[string]json.RawMessage
	err := json.Unmarshal(token, &members)
	return members, err
}

// SetMember returns an object with one member set to the JSON of value; the
// other members keep their text and order.
func SetMember(obj json.RawMessage, key string, value any) (json.RawMessage, error) {
	if err := checkTree(obj); err != nil {
		return nil, err
	}
	o, err := parseObject(obj)
	if err != nil {
		return nil, err
	}
	return o.with(key, marshal(value)).text(), nil
}
