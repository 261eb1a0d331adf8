package tpm2

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/lockport/lockport/luks2"
)

// bank is one algorithm in which PCRs are kept.
type bank struct {
	name string
	alg  uint16
	size int // of a value, in bytes
}

// banks are those that tokens can name.
func banks() []bank {
	return []bank{{"sha1", algSHA1, 20}, {"sha256", algSHA256, 32}, {"sha384", algSHA384, 48}, {"sha512", algSHA512, 64}}
}

func bankByName(name string) (bank, error) {
	for _, b := range banks() {
		if b.name == name {
			return b, nil
		}
	}
	return bank{}, fmt.Errorf("%w: PCR bank %q", luks2.ErrUnsupported, name)
}

// PCRName returns the name of a PCR after the use that systemd and the UAPI
// group's registry give it, "" for none.
func PCRName(pcr int) string {
	names := [...]string{0: "platform-code", "platform-config", "external-code", "external-config", "boot-loader-code",
		"boot-loader-config", "host-platform", "secure-boot-policy", 9: "kernel-initrd", "ima", "kernel-boot",
		"kernel-config", "sysexts", "shim-policy", "system-identity", "debug", 23: "application-support"}
	if pcr < 0 || pcr >= len(names) {
		return ""
	}
	return names[pcr]
}

// PCR is one register to bind to.
type PCR struct {
	Index int
	Bank  string // "sha256" and so on; "" for the best that the TPM has
	Value []byte // nil for what the register holds now
}

// ParsePCRs reads a list like 0+secure-boot-policy+11:sha256=hex. "" is the
// empty list. Entries are joined by + or, as systemd before 254 has it, by comma.
func ParsePCRs(list string) ([]PCR, error) {
	out := []PCR{}
	for _, item := range strings.FieldsFunc(list, func(r rune) bool { return r == '+' || r == ',' }) {
		p, err := parsePCR(item)
		if err != nil {
			return nil, fmt.Errorf("PCR %q: %w", item, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func parsePCR(item string) (PCR, error) {
	item, value, hasValue := strings.Cut(item, "=")
	index, bankName, hasBank := strings.Cut(item, ":")
	p := PCR{Index: pcrIndex(index), Bank: strings.ToLower(bankName)}
	if p.Index < 0 {
		return PCR{}, fmt.Errorf("neither a number up to %d nor a name", maxPCR)
	}
	if !hasBank && !hasValue {
		return p, nil
	}
	var b bank
	if hasBank {
		var err error
		if b, err = bankByName(p.Bank); err != nil {
			return PCR{}, err
		}
	}
	if !hasValue {
		return p, nil
	}
	v, err := hex.DecodeString(strings.TrimPrefix(value, "0x"))
	if err != nil {
		return PCR{}, fmt.Errorf("value: %w", err)
	}
	if !hasBank {
		if b, err = bankBySize(len(v)); err != nil {
			return PCR{}, err
		}
		p.Bank = b.name
	}
	if len(v) != b.size {
		return PCR{}, fmt.Errorf("value of %d bytes, a value of %s has %d", len(v), b.name, b.size)
	}
	p.Value = v
	return p, nil
}

func bankBySize(n int) (bank, error) {
	for _, b := range banks() {
		if b.size == n {
			return b, nil
		}
	}
	return bank{}, fmt.Errorf("no PCR bank has values of %d bytes", n)
}

// pcrIndex returns -1 for what is no PCR.
func pcrIndex(s string) int {
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n <= maxPCR {
		return int(n)
	}
	for n := range maxPCR + 1 {
		if s != "" && PCRName(n) == s {
			return n
		}
	}
	return -1
}
