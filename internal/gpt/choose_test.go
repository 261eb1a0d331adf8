package gpt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// parts makes a table from a line for each partition: designator[@arch] label
// uuid-prefix attributes.
func parts(t testing.TB, lines ...string) *Table {
	t.Helper()
	table := &Table{}
	for i, line := range lines {
		var name, label, id string
		var attributes uint64
		if _, err := fmt.Sscanf(line, "%s %s %s %x", &name, &label, &id, &attributes); err != nil {
			t.Fatal(line, err)
		}
		designator, arch, _ := strings.Cut(name, "@")
		p := Partition{Number: i + 1, Label: label, Attributes: Attributes(attributes), Type: typeOf(t, Designator(designator), arch)}
		copy(p.UUID[:], strings.Repeat(id, 16))
		table.Partitions = append(table.Partitions, p)
	}
	return table
}

// hash is a root hash whose halves are the UUIDs made of a and b by parts.
func hash(a, b string) []byte { return []byte(strings.Repeat(a, 16) + strings.Repeat(b, 16)) }

func TestChoose(t *testing.T) {
	t.Parallel()
	verity := []string{"root@x86-64 r_1 a 0", "root-verity@x86-64 v_1 b 0", "root-verity-sig@x86-64 s_1 c 0",
		"root@x86-64 r_2 d 0", "root-verity@x86-64 v_2 e 0", "root-verity-sig@x86-64 s_2 f 0"}
	usr := []string{"usr@x86-64 u a 0", "usr-verity@x86-64 v b 0", "usr-verity-sig@x86-64 s c 0"}
	const hidden, readOnly, grow = " 8000000000000000", " 1000000000000000", " 0800000000000000"
	for name, c := range map[string]struct {
		parts []string
		want  Wanted
		got   string // designator=number, in order; a ! behind what is protected, + writable, * grows
		err   error
	}{
		"newest root":        {[]string{"root@x86-64 a_9 a 0", "root@x86-64 a_10 b 0", "root@x86-64 a_2 c 0"}, Wanted{}, "root=2+", nil},
		"first of equals":    {[]string{"root@x86-64 a_1 a 0", "root@x86-64 a_1 b 0"}, Wanted{}, "root=1+", nil},
		"first home":         {[]string{"home h_1 a 0", "home h_2 b 0", "root@x86-64 a c 0"}, Wanted{}, "home=1+ root=3+", nil},
		"native before new":  {[]string{"root@x86 a_9 a 0", "root@x86-64 a_1 b 0", "root@arm a_99 c 0"}, Wanted{}, "root=2+", nil},
		"secondary":          {[]string{"root@arm a_9 a 0", "root@x86 a_1 b 0"}, Wanted{}, "root=2+", nil},
		"foreign":            {[]string{"root@arm a_9 a 0"}, Wanted{}, "root=1+", nil},
		"secondary of arm64": {[]string{"root@x86-64 a_9 a 0", "root@arm a_1 b 0"}, Wanted{Architecture: "arm64"}, "root=2+", nil},
		"attributes":         {[]string{"root@x86-64 a a" + readOnly, "home a b" + grow, "var a c" + hidden, "tmp a d 1800000000000000"}, Wanted{}, "home=2+* root=1 tmp=4", nil},
		"attributes of esp":  {[]string{"root@x86-64 a a 0", "esp a b 9800000000000000", "swap a c" + readOnly}, Wanted{}, "esp=2+ root=1+ swap=3+", nil},
		"no block io":        {[]string{"root@x86-64 a a 0", "esp a b 2"}, Wanted{}, "root=1+", nil},
		"hidden newest":      {[]string{"root@x86-64 a_1 a 0", "root@x86-64 a_2 b" + hidden}, Wanted{}, "root=1+", nil},
		"user home":          {[]string{"root@x86-64 a a 0", "user-home a b 0"}, Wanted{}, "root=1+", nil},
		"usr alone":          {[]string{"usr@x86-64 a a 0"}, Wanted{}, "usr=1+", nil},
		"generic":            {[]string{"home a a 0", "linux-generic a b" + readOnly}, Wanted{}, "home=1+ root=2", nil},
		"generic unused":     {[]string{"root@x86-64 a a 0", "linux-generic a b 0", "linux-generic a c 0"}, Wanted{}, "root=1+", nil},
		"two generic":        {[]string{"linux-generic a b 0", "linux-generic a c 0"}, Wanted{}, "", ErrSeveral},
		"hidden generic":     {[]string{"linux-generic a b 0", "linux-generic a c" + hidden}, Wanted{}, "root=1+", nil},
		"nothing":            {[]string{"home a a 0"}, Wanted{}, "", ErrNoRoot},
		"two architectures":  {[]string{"root@x86-64 a a 0", "usr@arm a b 0"}, Wanted{}, "", ErrMismatch},

		"no settings":        {verity, Wanted{}, "root=4+", nil},
		"signature":          {verity, Wanted{Verity: &Verity{}}, "root=4! root-verity=5 root-verity-sig=6", nil},
		"hash":               {verity, Wanted{Verity: &Verity{Hash: hash("a", "b")}}, "root=1! root-verity=2 root-verity-sig=6", nil},
		"long hash":          {verity, Wanted{Verity: &Verity{Hash: append(hash("a", "?"), hash("b", "b")...)}}, "root=1! root-verity=2 root-verity-sig=6", nil},
		"hash of another":    {verity, Wanted{Verity: &Verity{Hash: hash("x", "b")}}, "", ErrMismatch},
		"tree of another":    {verity[:2], Wanted{Verity: &Verity{Hash: hash("a", "x")}}, "", ErrMismatch},
		"tree alone":         {verity[1:2], Wanted{Verity: &Verity{}}, "", ErrMismatch},
		"signature alone":    {[]string{verity[0], verity[2]}, Wanted{Verity: &Verity{}}, "", ErrMismatch},
		"no signature":       {verity[:2], Wanted{Verity: &Verity{}}, "root=1+ root-verity=2", nil},
		"usr signature":      {usr, Wanted{Verity: &Verity{}}, "usr=1! usr-verity=2 usr-verity-sig=3", nil},
		"usr hash":           {usr, Wanted{Verity: &Verity{Of: Usr, Hash: hash("a", "b")}}, "usr=1! usr-verity=2 usr-verity-sig=3", nil},
		"usr hash for root":  {usr, Wanted{Verity: &Verity{Hash: hash("a", "b")}}, "", ErrMismatch},
		"usr hash, no usr":   {[]string{"linux-generic a b 0"}, Wanted{Verity: &Verity{Of: Usr, Hash: hash("a", "b")}}, "", ErrNoRoot},
		"both trees":         {append(slices.Clone(verity[:2]), usr...), Wanted{Verity: &Verity{}}, "", ErrSeveral},
		"usr beside":         {append(slices.Clone(verity[:2]), usr[0]), Wanted{Verity: &Verity{}}, "", ErrMismatch},
		"root beside usr":    {append(slices.Clone(verity[:1]), usr...), Wanted{Verity: &Verity{}}, "root=1+ usr=2! usr-verity=3 usr-verity-sig=4", nil},
		"settings of usr":    {append(slices.Clone(verity[:2]), usr...), Wanted{Verity: &Verity{Of: Usr}}, "root=1+ usr=3! usr-verity=4 usr-verity-sig=5", nil},
		"generic with hash":  {[]string{"linux-generic a b 0"}, Wanted{Verity: &Verity{Hash: hash("a", "b")}}, "", ErrMismatch},
		"grow what is fixed": {[]string{"root@x86-64 a a" + grow, verity[1], verity[2]}, Wanted{Verity: &Verity{}}, "root=1! root-verity=2 root-verity-sig=3", nil},

		"unused": {[]string{"root@x86-64 a a 0", "swap a b 0"},
			Wanted{Unused: func(d Designator) bool { return d == Swap }}, "root=1+ -swap", nil},
		"unused generic": {[]string{"linux-generic a b 0"},
			Wanted{Unused: func(d Designator) bool { return d == Root }}, "", ErrNoRoot},
	} {
		if c.want.Architecture == "" {
			c.want.Architecture = "x86-64"
		}
		got, err := parts(t, c.parts...).Choose(c.want)
		if !errors.Is(err, c.err) || err != nil && c.err == nil {
			t.Errorf("%s: %v, not %v", name, err, c.err)
		}
		if err != nil && got != nil {
			t.Errorf("%s: a choice comes with an error", name)
		}
		if err == nil && got.text() != c.got {
			t.Errorf("%s: %s, not %s", name, got.text(), c.got)
		}
	}
	if _, err := parts(t, verity...).Choose(Wanted{Verity: &Verity{Hash: make([]byte, 15)}}); err == nil {
		t.Error("a root hash of 15 bytes is taken")
	}
}

func (c *Choice) text() string {
	var words []string
	for _, d := range slices.Sorted(maps.Keys(c.Partitions)) {
		p := c.Partitions[d]
		word := fmt.Sprintf("%s=%d", d, p.Number)
		for mark, is := range map[string]bool{"!": d == c.Protected, "+": p.Writable} {
			if is {
				word += mark
			}
		}
		if p.Grow {
			word += "*"
		}
		words = append(words, word)
	}
	for _, d := range slices.Sorted(maps.Keys(c.Unused)) {
		words = append(words, "-"+string(d))
	}
	return strings.Join(words, " ")
}

func TestKinds(t *testing.T) {
	t.Parallel()
	seen := map[UUID]Kind{}
	check := func(k Kind) {
		u := typeOf(t, k.Designator, k.Architecture)
		if old, ok := seen[u]; ok {
			t.Errorf("%v and %v have the same type", old, k)
		}
		seen[u] = k
		if got := (Partition{Type: u}).Kind(); got != k {
			t.Errorf("%s is %v, not %v", u, got, k)
		}
	}
	for _, p := range plainTypes() {
		check(Kind{Designator: p.designator})
	}
	for _, o := range osTypes() {
		for _, d := range osDesignators() {
			check(Kind{d, o.architecture})
		}
	}
	if len(seen) != 9+21*6 {
		t.Errorf("%d types", len(seen))
	}
	if k := (Partition{Type: UUID{1}}).Kind(); k != (Kind{}) {
		t.Errorf("an unknown type is %v", k)
	}
	if _, ok := TypeOf(Kind{Root, ""}); ok {
		t.Error("a type of root without architecture")
	}
	for _, goarch := range []string{"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"} {
		if _, ok := TypeOf(Kind{UsrVeritySig, Architecture(goarch)}); !ok {
			t.Errorf("no types for %s", goarch)
		}
	}
}

func TestParseUUID(t *testing.T) {
	t.Parallel()
	u := uuid(t, "4F68BCE3-e8cd-4db1-96e7-fbcaf984b709")
	if u.String() != "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" || u.swapped().swapped() != u || u.IsZero() {
		t.Error(u)
	}
	for _, s := range []string{"", "4f68bce3e8cd4db196e7fbcaf984b709", "4f68bce3-e8cd-4db1-96e7-fbcaf984b70", "4f68bce3-e8cd-4db1-96e7-fbcaf984b70g",
		"4f68bce3-e8cd-4db1-96e7-fbcaf984b709 ", "4f68bce3xe8cd-4db1-96e7-fbcaf984b709"} {
		if _, err := ParseUUID(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Table){
		"disk UUID":   func(x *Table) { x.UUID = UUID{} },
		"type":        func(x *Table) { x.Partitions[0].Type = UUID{} },
		"UUID":        func(x *Table) { x.Partitions[0].UUID = UUID{} },
		"same UUID":   func(x *Table) { x.Partitions[0].UUID = x.Partitions[1].UUID },
		"same number": func(x *Table) { x.Partitions[0].Number = x.Partitions[1].Number },
		"number 0":    func(x *Table) { x.Partitions[0].Number = 0 },
		"number 129":  func(x *Table) { x.Partitions[0].Number = 129 },
		"odd offset":  func(x *Table) { x.Partitions[0].Offset++ },
		"odd size":    func(x *Table) { x.Partitions[0].Size++ },
		"in table":    func(x *Table) { x.Partitions[0].Offset -= 512 },
		"too long":    func(x *Table) { x.Partitions[1].Size = 1 << 62 },
		"far away":    func(x *Table) { x.Partitions[1].Offset = 1<<63 - 512 },
		"overlap":     func(x *Table) { x.Partitions[1].Offset -= 512 },
		"long label":  func(x *Table) { x.Partitions[0].Label = strings.Repeat("𝄞", 18) + "a" },
		"bad label":   func(x *Table) { x.Partitions[0].Label = "a\xff" },
		"NUL label":   func(x *Table) { x.Partitions[0].Label = "a\x00b" },
		"of an MBR":   func(x *Table) { x.Partitions[0].MBRType = 0x83 },
		"an MBR":      func(x *Table) { x.Scheme = MBR },
		"sector":      func(x *Table) { x.SectorSize = 500 },
	} {
		table := sample(t, 512)
		size, err := table.Place(512)
		if err != nil {
			t.Fatal(err)
		}
		change(table)
		r := make(ram, size)
		if err := table.Write(r, size); err == nil || !zero(r) {
			t.Errorf("%s: %v", name, err)
		}
	}
	table := sample(t, 512)
	if err := table.Write(make(ram, 40*512), 40*512); err == nil {
		t.Error("a small disk is taken")
	}
	for _, align := range []int64{0, 511, 513, 256, 1 << 31} {
		if _, err := table.Place(align); err == nil {
			t.Errorf("alignment %d is taken", align)
		}
	}
	table.Partitions[1].Size = 1<<63 - 1
	if _, err := table.Place(4096); err == nil {
		t.Error("a huge partition is taken")
	}
}
