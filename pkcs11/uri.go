package pkcs11

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxURI is the longest URI that is read, in bytes.
const maxURI = 4 << 10

// URI names tokens and objects on them, as RFC 7512 has it. What it leaves open
// fits all. PINs and names of modules, which can be in it too, are read over: a PIN
// in the clear is never used, and which modules are loaded is not for a header to say.
type URI struct {
	path []uriAttribute
	pin  bool
}

// A uriAttribute is decoded.
type uriAttribute struct{ name, value string }

// tokenAttributes are what a token is known by, in the order in which p11-kit
// writes them; objectAttributes are those of what is on it.
var (
	moduleAttributes = []string{"library-description", "library-manufacturer", "library-version"}
	slotAttributes   = []string{"slot-description", "slot-manufacturer", "slot-id"}
	tokenAttributes  = []string{"model", "manufacturer", "serial", "token"}
	objectAttributes = []string{"id", "object", "type"}

	pathAttributes = slices.Concat(moduleAttributes, slotAttributes, tokenAttributes, objectAttributes)
)

// classes are the values of the attribute "type".
var classes = map[string]uint64{"cert": classCertificate, "public": classPublic, "private": classPrivate,
	"secret-key": classSecret, "data": classData}

// ParseURI reads a URI. The error wraps [ErrURI]. An attribute that is unknown is
// refused: whoever wrote it wanted to say less than what is left without it.
func ParseURI(text string) (URI, error) {
	u, err := parseURI(text)
	if err != nil {
		return URI{}, fmt.Errorf("%w: %w", ErrURI, err)
	}
	return u, nil
}

func parseURI(text string) (URI, error) {
	const scheme = "pkcs11:"
	if len(text) > maxURI {
		return URI{}, fmt.Errorf("longer than %d bytes", maxURI)
	}
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return URI{}, errors.New("the scheme is not pkcs11")
	}
	path, query, _ := strings.Cut(text[len(scheme):], "?")
	var u URI
	for part := range strings.SplitSeq(path, ";") {
		if part == "" && path == "" {
			break
		}
		if err := u.add(part); err != nil {
			return URI{}, err
		}
	}
	for part := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(part, "=")
		if _, err := unescape(value); err != nil {
			return URI{}, fmt.Errorf("attribute %.32q: %w", name, err)
		}
		u.pin = u.pin || name == "pin-value" && value != ""
	}
	return u, u.check()
}

// add reads one attribute of the path.
func (u *URI) add(part string) error {
	name, value, ok := strings.Cut(part, "=")
	if !ok {
		return fmt.Errorf("%.32q has no value", part)
	}
	text, err := unescape(value)
	if err != nil {
		return fmt.Errorf("attribute %.32q: %w", name, err)
	}
	switch name {
	case "pin-value", "pin-source": // in old URIs they were in the path
		u.pin = u.pin || name == "pin-value"
		return nil
	case "object-type", "objecttype":
		name = "type"
	}
	if name == "type" && text == "secretkey" {
		text = "secret-key"
	}
	if !slices.Contains(pathAttributes, name) {
		return fmt.Errorf("attribute %.32q is unknown", name)
	}
	if u.has(name) {
		return fmt.Errorf("attribute %q comes twice", name)
	}
	u.path = append(u.path, uriAttribute{name, text})
	return nil
}

func (u *URI) check() error {
	if class, ok := u.get("type"); ok {
		if _, known := classes[class]; !known {
			return fmt.Errorf("type %.32q is unknown", class)
		}
	}
	if id, ok := u.get("slot-id"); ok {
		if _, err := strconv.ParseUint(id, 10, 64); err != nil {
			return fmt.Errorf("slot-id %.32q is no number", id)
		}
	}
	return nil
}

// unescape decodes the %XX of a value. What else has to be escaped and was not is
// taken as it is, but for characters that no URI has.
func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) {
				return "", errors.New("it ends in the middle of an escape")
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("%q is no escape", s[i:i+3])
			}
			b.WriteByte(byte(n))
			i += 2
		case c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0:
			return "", fmt.Errorf("character %q", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// escape writes a value as p11-kit does: more is escaped than would have to be, and
// of an id all of it.
func escape(b *strings.Builder, value string, all bool) {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
	for i := range len(value) {
		if c := value[i]; !all && strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(b, "%%%02X", c)
		}
	}
}

func (u URI) get(name string) (string, bool) {
	for _, a := range u.path {
		if a.name == name {
			return a.value, true
		}
	}
	return "", false
}

func (u URI) has(name string) bool { _, ok := u.get(name); return ok }

// hasAny tells whether one of the names is in the URI.
func (u URI) hasAny(names []string) bool { return slices.ContainsFunc(names, u.has) }

// HasPIN tells whether the URI has a PIN in it.
func (u URI) HasPIN() bool { return u.pin }

// String writes the URI in the order and with the escapes of p11-kit. A PIN and
// the rest of the query are left out.
func (u URI) String() string {
	var b strings.Builder
	b.WriteString("pkcs11:")
	separator := ""
	for _, name := range pathAttributes {
		if value, ok := u.get(name); ok {
			b.WriteString(separator + name + "=")
			escape(&b, value, name == "id")
			separator = ";"
		}
	}
	return b.String()
}

// with returns the URI with another value of one attribute, "" for none.
func (u URI) with(name, value string) URI {
	path := slices.DeleteFunc(slices.Clone(u.path), func(a uriAttribute) bool { return a.name == name })
	if value != "" {
		path = append(path, uriAttribute{name, value})
	}
	u.path = path
	return u
}

// tokenURI names a token as p11-kit does: by all that it says of itself.
func tokenURI(t tokenInfo) URI {
	var u URI
	for _, a := range []uriAttribute{{"model", t.model}, {"manufacturer", t.manufacturer}, {"serial", t.serial}, {"token", t.label}} {
		if a.value != "" {
			u.path = append(u.path, a)
		}
	}
	return u
}

// same compares what the URI says under a name with what is there.
func (u URI) same(name, there string) bool {
	value, ok := u.get(name)
	return !ok || strings.TrimRight(value, " ") == there
}

// matches tells whether the URI fits a token and its slot.
func (u URI) matches(id uint64, s slotInfo, t tokenInfo) bool {
	return u.same("model", t.model) && u.same("manufacturer", t.manufacturer) && u.same("serial", t.serial) &&
		u.same("token", t.label) && u.same("slot-description", s.description) && u.same("slot-manufacturer", s.manufacturer) &&
		u.same("slot-id", strconv.FormatUint(id, 10))
}

// matchesModule tells whether the URI fits the library.
func (u URI) matchesModule(m moduleInfo) bool {
	return u.same("library-description", m.description) && u.same("library-manufacturer", m.manufacturer) &&
		u.same("library-version", fmt.Sprintf("%d.%d", m.major, m.minor))
}

// object returns what to search for on the token, without the class.
func (u URI) object() []attribute {
	var list []attribute
	if id, ok := u.get("id"); ok {
		list = append(list, attribute{attrID, []byte(id)})
	}
	if label, ok := u.get("object"); ok {
		list = append(list, attribute{attrLabel, []byte(label)})
	}
	return list
}
