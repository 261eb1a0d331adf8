package gpt

import "slices"

// Designator says what a partition is for, in systemd's words.
type Designator string

// The designators of UAPI.2. The empty one is of partitions of any other type.
const (
	Root          Designator = "root"
	RootVerity    Designator = "root-verity"
	RootVeritySig Designator = "root-verity-sig"
	Usr           Designator = "usr"
	UsrVerity     Designator = "usr-verity"
	UsrVeritySig  Designator = "usr-verity-sig"
	ESP           Designator = "esp"
	XBOOTLDR      Designator = "xbootldr"
	Swap          Designator = "swap"
	Home          Designator = "home"
	Srv           Designator = "srv"
	Var           Designator = "var"
	Tmp           Designator = "tmp"
	UserHome      Designator = "user-home"
	Generic       Designator = "linux-generic"
)

// Kind is what a partition is for, and the architecture of what is in it, where
// it has one.
type Kind struct {
	Designator   Designator
	Architecture string // in systemd's words, like x86-64
}

// Verity returns the designators of the hash tree and of the signature that
// belong to a data partition, or nothing where there are none.
func (d Designator) Verity() (tree, signature Designator) {
	switch d {
	case Root:
		return RootVerity, RootVeritySig
	case Usr:
		return UsrVerity, UsrVeritySig
	}
	return "", ""
}

// Guarded is the reverse of [Designator.Verity]: the designator of the data that
// a hash tree or a signature is for.
func (d Designator) Guarded() (data Designator, ok bool) {
	switch d {
	case RootVerity, RootVeritySig:
		return Root, true
	case UsrVerity, UsrVeritySig:
		return Usr, true
	}
	return "", false
}

// Kind returns what a partition is for: of a GPT by its type, of an MBR by its
// type and its boot flag. It is zero for a type that is not known here.
func (p Partition) Kind() Kind {
	switch {
	case p.MBRType == mbrXBOOTLDR:
		return Kind{Designator: XBOOTLDR}
	case p.MBRType == mbrLinux && p.Bootable:
		return Kind{Designator: Generic}
	case p.MBRType != 0:
		return Kind{}
	}
	return p.Type.kind()
}

func (u UUID) kind() Kind {
	text := u.String()
	for _, t := range plainTypes() {
		if t.uuid == text {
			return Kind{Designator: t.designator}
		}
	}
	for _, t := range osTypes() {
		for i, uuid := range t.uuids {
			if uuid == text {
				return Kind{osDesignators()[i], t.architecture}
			}
		}
	}
	return Kind{}
}

// TypeOf returns the type of partitions of a kind.
func TypeOf(k Kind) (u UUID, ok bool) {
	for _, t := range plainTypes() {
		if k == (Kind{Designator: t.designator}) {
			u, err := ParseUUID(t.uuid)
			return u, err == nil
		}
	}
	for _, t := range osTypes() {
		for i, uuid := range t.uuids {
			if k == (Kind{osDesignators()[i], t.architecture}) {
				u, err := ParseUUID(uuid)
				return u, err == nil
			}
		}
	}
	return UUID{}, false
}

// Architecture returns systemd's word for an architecture of Go's, and "" for
// one that it has no partition types for.
func Architecture(goarch string) string {
	return map[string]string{
		"386": "x86", "amd64": "x86-64", "arm": "arm", "arm64": "arm64", "loong64": "loongarch64",
		"mips": "mips", "mipsle": "mips-le", "mips64": "mips64", "mips64le": "mips64-le",
		"ppc": "ppc", "ppc64": "ppc64", "ppc64le": "ppc64-le", "riscv": "riscv32", "riscv64": "riscv64",
		"s390": "s390", "s390x": "s390x",
	}[goarch]
}

// KnownArchitecture tells whether text is one of systemd's words that there are
// partition types for.
func KnownArchitecture(text string) bool {
	return slices.ContainsFunc(osTypes(), func(t osType) bool { return t.architecture == text })
}

// SecondaryArchitecture is the one that a machine of another one also runs, or
// "" where there is none.
func SecondaryArchitecture(architecture string) string {
	return map[string]string{"x86-64": "x86", "arm64": "arm", "ppc64": "ppc", "s390x": "s390"}[architecture]
}
