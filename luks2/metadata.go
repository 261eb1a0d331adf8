package luks2

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// Limits of the format: names run from 0 up to these.
const (
	MaxKeyslots = 32
	MaxTokens   = 32
	MaxSegments = 32
	maxDigests  = 8
)

// Format: specification §3.4; bounds as in libcryptsetup.
const (
	areaAlign       = 4096
	maxKeyslotsSize = 128 << 20
	saltSize        = 32
	afStripes       = 4000
	maxKeySize      = 512 // bytes; dm-crypt takes no larger one
)

// Priority says when a keyslot is tried.
type Priority int

// The priorities of a keyslot.
const (
	PriorityIgnore Priority = 0 // only when asked for by number
	PriorityNormal Priority = 1
	PriorityPrefer Priority = 2 // before all normal ones
)

// String returns the name that cryptsetup uses.
func (p Priority) String() string {
	switch p {
	case PriorityIgnore:
		return "ignore"
	case PriorityPrefer:
		return "prefer"
	}
	return "normal"
}

// Keyslot is one way to the volume key. Slots of types other than "luks2" have
// no more than ID, Type, KeySize, Priority and, if they use any, an area.
type Keyslot struct {
	ID       int
	Type     string
	KeySize  int // bytes of the key inside
	Priority Priority
	Area     Area
	KDF      KDF
	AFHash   string
	Note     Note
}

// Area is where a keyslot keeps its key material.
type Area struct {
	Offset, Size int64 // bytes from the start of the device
	Encryption   string
	KeySize      int // bytes
}

// Segment is a range of the data device.
type Segment struct {
	ID         int
	Type       string // "crypt" is the one that can be activated
	Offset     int64  // bytes from the start of the data device
	Size       int64  // bytes; Dynamic is up to the end of the device
	IVTweak    uint64 // sectors of 512 bytes
	Encryption string
	SectorSize int    // bytes
	Integrity  string // "" for none
	Flags      []string
}

// Dynamic as a segment's size means "up to the end of the device".
const Dynamic int64 = -1

// Digest proves a volume key.
type Digest struct {
	ID         int
	Type       string
	Keyslots   []int
	Segments   []int
	Hash       string
	Iterations uint32
	Salt       []byte
	Value      []byte
}

// Token describes how a keyslot's passphrase comes about.
type Token struct {
	ID       int
	Type     string
	Keyslots []int
	JSON     json.RawMessage // the whole token
}

// metadata is the JSON area as validated values.
type metadata struct {
	keyslots     []Keyslot // each list in the order of the text
	tokens       []Token
	segments     []Segment
	digests      []Digest
	flags        []string
	requirements []string
	jsonSize     int64
	keyslotsSize int64
}

// parseMetadata validates the JSON text of a header of the given size in bytes.
func parseMetadata(text []byte, size int64) (*metadata, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("metadata does not begin with an object")
	}
	if err := checkTree(text); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	obj, err := parseObject(text)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	root := node{obj: obj, first: new(error)}
	m := &metadata{}
	m.readConfig(root)
	root.each("keyslots", MaxKeyslots, m.readKeyslot)
	root.each("segments", MaxSegments, m.readSegment)
	root.each("digests", maxDigests, m.readDigest)
	root.each("tokens", MaxTokens, m.readToken)
	if *root.first != nil {
		return nil, *root.first
	}
	return m, m.check(size)
}

func (m *metadata) readConfig(root node) {
	n := root.child("config")
	m.jsonSize = n.offset("json_size", areaAlign)
	m.keyslotsSize = n.offset("keyslots_size", areaAlign)
	m.flags = n.strs("flags")
	if n.has("requirements") {
		m.requirements = n.child("requirements").strs("mandatory")
	}
}

func (m *metadata) readKeyslot(id int, n node) {
	k := Keyslot{ID: id, Type: n.str("type"), KeySize: n.count("key_size", 0), Priority: PriorityNormal}
	if n.has("priority") {
		k.Priority = Priority(n.count("priority", 0))
		if k.Priority > PriorityPrefer {
			n.fail("priority", "%d is unknown", k.Priority)
		}
	}
	if k.Type == "luks2" || n.has("area") {
		area := n.child("area")
		k.Area.Offset = area.offset("offset", areaAlign)
		k.Area.Size = area.offset("size", areaAlign)
	}
	if k.Type == "luks2" {
		k.readOwn(n)
	}
	m.keyslots = append(m.keyslots, k)
}

// readOwn reads what only slots of type luks2 have.
func (k *Keyslot) readOwn(n node) {
	if k.KeySize < 1 || k.KeySize > maxKeySize {
		n.fail("key_size", "%d is out of range", k.KeySize)
	}
	area := n.child("area")
	if kind := area.str("type"); kind != "raw" {
		area.fail("type", "%q is unknown", kind)
	}
	k.Area.Encryption = area.str("encryption")
	k.Area.KeySize = area.count("key_size", 1)
	if k.Area.Size < materialSize(k.KeySize) {
		area.fail("size", "%d is too small for a key of %d bytes", k.Area.Size, k.KeySize)
	}
	af := n.child("af")
	if kind := af.str("type"); kind != "luks1" {
		af.fail("type", "%q is unknown", kind)
	}
	if stripes := af.count("stripes", 1); stripes != afStripes {
		af.fail("stripes", "%d is not %d", stripes, afStripes)
	}
	k.AFHash = af.str("hash")
	k.KDF = readKDF(n.child("kdf"))
	k.Note = readNote(n)
}

func (m *metadata) readSegment(id int, n node) {
	s := Segment{ID: id, Type: n.str("type"), Offset: n.offset("offset", 512), Flags: n.strs("flags")}
	if n.str("size") == "dynamic" {
		s.Size = Dynamic
	} else if s.Size = n.offset("size", 512); s.Size == 0 {
		n.fail("size", "is zero")
	}
	if s.Type == "crypt" || s.Type == "hw-opal-crypt" {
		s.Encryption = n.str("encryption")
		s.IVTweak = uint64(n.offset("iv_tweak", 1))
		s.SectorSize = n.count("sector_size", 1)
		if !slices.Contains([]int{512, 1024, 2048, 4096}, s.SectorSize) {
			n.fail("sector_size", "%d is not 512, 1024, 2048 or 4096", s.SectorSize)
		} else if s.Size > 0 && s.Size%int64(s.SectorSize) != 0 {
			n.fail("size", "%d is not a multiple of the sector size", s.Size)
		}
	}
	if n.has("integrity") {
		s.Integrity = n.child("integrity").str("type")
	}
	m.segments = append(m.segments, s)
}

func (m *metadata) readDigest(id int, n node) {
	d := Digest{ID: id, Type: n.str("type"),
		Keyslots: n.ids("keyslots", MaxKeyslots), Segments: n.ids("segments", MaxSegments)}
	if d.Type != "pbkdf2" {
		n.fail("type", "%q is unknown", d.Type)
	}
	d.Hash = n.str("hash")
	d.Iterations = n.count32("iterations")
	d.Salt = n.base64("salt")
	d.Value = n.base64("digest")
	switch h, err := hashNamed(d.Hash); {
	case err != nil:
		n.fail("hash", "%v", err)
	case d.Iterations == 0:
		n.fail("iterations", "is zero")
	case len(d.Salt) != saltSize:
		n.fail("salt", "is not %d bytes long", saltSize)
	// The first releases wrote 20 bytes whatever the hash.
	case len(d.Value) != h().Size() && len(d.Value) != 20:
		n.fail("digest", "is %d bytes long", len(d.Value))
	}
	m.digests = append(m.digests, d)
}

func (m *metadata) readToken(id int, n node) {
	t := Token{ID: id, Type: n.str("type"), Keyslots: n.ids("keyslots", MaxKeyslots), JSON: n.obj.text()}
	if t.Type == keyringType {
		if _, err := keyringDescription(n.obj); err != nil {
			n.fail("", "%v", err)
		}
	}
	m.tokens = append(m.tokens, t)
}

// check holds the rules that span several objects.
func (m *metadata) check(size int64) error {
	switch {
	case m.jsonSize != size-binarySize:
		return fmt.Errorf("config.json_size: %d does not fit a header of %d bytes", m.jsonSize, size)
	case m.keyslotsSize > maxKeyslotsSize:
		return fmt.Errorf("config.keyslots_size: %d is over %d", m.keyslotsSize, maxKeyslotsSize)
	}
	for _, check := range []func(int64) error{m.checkAreas, m.checkSegments, m.checkDigests, m.checkTokens} {
		if err := check(size); err != nil {
			return err
		}
	}
	return nil
}

// checkAreas keeps key material inside its region and apart from each other:
// an area elsewhere would have us read, or wipe, what is not ours.
func (m *metadata) checkAreas(size int64) error {
	type extent struct {
		id         int
		start, end int64
	}
	var used []extent
	for _, k := range m.keyslots {
		if k.Area == (Area{}) {
			continue
		}
		start, end := k.Area.Offset, k.Area.Offset+k.Area.Size
		if start < 2*size || end < start || end > 2*size+m.keyslotsSize || k.Area.Size == 0 {
			return fmt.Errorf("keyslots.%d.area: lies outside the keyslots area", k.ID)
		}
		used = append(used, extent{k.ID, start, end})
	}
	sort.Slice(used, func(i, j int) bool { return used[i].start < used[j].start })
	for i := 1; i < len(used); i++ {
		if used[i].start < used[i-1].end {
			return fmt.Errorf("keyslots.%d.area: overlaps that of keyslot %d", used[i].id, used[i-1].id)
		}
	}
	return nil
}

func (m *metadata) checkSegments(size int64) error {
	if len(m.segments) == 0 {
		return errors.New("segments: there is none")
	}
	var data []Segment
	for id := range m.segments {
		i := slices.IndexFunc(m.segments, func(s Segment) bool { return s.ID == id })
		if i < 0 {
			return fmt.Errorf("segments.%d: is missing", id)
		}
		if !m.segments[i].backup() {
			data = append(data, m.segments[i])
		}
	}
	for i, s := range data {
		// Offset 0 is a detached header, whose data is on another device.
		if s.Offset != 0 && s.Offset < 2*size+m.keyslotsSize && i == 0 {
			return fmt.Errorf("segments.%d.offset: lies inside the header", s.ID)
		}
		if s.Size != Dynamic && s.Offset+s.Size < s.Offset {
			return fmt.Errorf("segments.%d.size: out of range", s.ID)
		}
		if i > 0 && (data[i-1].Size == Dynamic || data[i-1].Offset+data[i-1].Size > s.Offset) {
			return fmt.Errorf("segments.%d: overlaps segment %d", s.ID, data[i-1].ID)
		}
	}
	return nil
}

// backup tells the segments that only describe the state before or after a
// reencryption.
func (s Segment) backup() bool {
	return slices.ContainsFunc(s.Flags, func(f string) bool { return len(f) > 7 && f[:7] == "backup-" })
}

func (m *metadata) checkDigests(int64) error {
	owner := map[int]int{}
	covered := map[int]bool{}
	for _, d := range m.digests {
		for _, id := range d.Keyslots {
			if _, ok := m.keyslot(id); !ok {
				return fmt.Errorf("digests.%d.keyslots: there is no keyslot %d", d.ID, id)
			}
			if other, ok := owner[id]; ok {
				return fmt.Errorf("digests.%d.keyslots: keyslot %d belongs to digest %d already", d.ID, id, other)
			}
			owner[id] = d.ID
		}
		for _, id := range d.Segments {
			if id >= len(m.segments) {
				return fmt.Errorf("digests.%d.segments: there is no segment %d", d.ID, id)
			}
			covered[id] = true
		}
	}
	for _, k := range m.keyslots {
		if _, ok := owner[k.ID]; !ok && k.Type == "luks2" {
			return fmt.Errorf("keyslots.%d: has no digest", k.ID)
		}
	}
	for _, s := range m.segments {
		if s.Type == "crypt" && !covered[s.ID] {
			return fmt.Errorf("segments.%d: has no digest", s.ID)
		}
	}
	return nil
}

func (m *metadata) checkTokens(int64) error {
	for _, t := range m.tokens {
		for _, id := range t.Keyslots {
			if _, ok := m.keyslot(id); !ok {
				return fmt.Errorf("tokens.%d.keyslots: there is no keyslot %d", t.ID, id)
			}
		}
	}
	return nil
}

func (m *metadata) keyslot(id int) (Keyslot, bool) {
	for _, k := range m.keyslots {
		if k.ID == id {
			return k, true
		}
	}
	return Keyslot{}, false
}

// digestOf returns the digest that proves the key in a keyslot.
func (m *metadata) digestOf(keyslot int) (Digest, bool) {
	for _, d := range m.digests {
		if slices.Contains(d.Keyslots, keyslot) {
			return d, true
		}
	}
	return Digest{}, false
}

// segmentDigest returns the digest of the default segment's key.
func (m *metadata) segmentDigest() (Digest, bool) {
	for _, d := range m.digests {
		if slices.Contains(d.Segments, 0) {
			return d, true
		}
	}
	return Digest{}, false
}
