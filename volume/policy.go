package volume

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lockport/lockport/luks2"
)

// tokenMembers are the members of systemd's tokens that tell a person what the
// token asks for. Format: systemd, src/cryptenroll.
type tokenMembers struct {
	URI       string `json:"pkcs11-uri"`
	PCRs      []int  `json:"tpm2-pcrs"`
	Bank      string `json:"tpm2-pcr-bank"`
	TPMPIN    bool   `json:"tpm2-pin"`
	SignedFor []int  `json:"tpm2_pubkey_pcrs"`
	PCRLock   bool   `json:"tpm2_pcrlock"`
	PIN       *bool  `json:"fido2-clientPin-required"`
	Touch     *bool  `json:"fido2-up-required"`
	UV        *bool  `json:"fido2-uv-required"`
}

// Policy tells in words what a token asks for, "" where nothing is known. It is
// lenient: a token of a known type with odd content is simply not explained.
func Policy(t luks2.Token) string {
	if name, ok := t.KeyringDescription(); ok {
		return fmt.Sprintf("kernel key %q", name)
	}
	var m tokenMembers
	if json.Unmarshal(t.JSON, &m) != nil {
		return ""
	}
	switch tokenKind(t.Type) {
	case TPM2:
		return m.tpm2()
	case FIDO2:
		return m.fido2()
	case PKCS11:
		return printable(m.URI)
	}
	return ""
}

func (m tokenMembers) tpm2() string {
	var parts []string
	if len(m.PCRs) > 0 {
		parts = append(parts, "PCR "+numbers(m.PCRs)+bankSuffix(m.Bank))
	}
	if len(m.SignedFor) > 0 {
		parts = append(parts, "signed policy for PCR "+numbers(m.SignedFor))
	}
	if m.PCRLock {
		parts = append(parts, "pcrlock")
	}
	if m.TPMPIN {
		parts = append(parts, "PIN")
	}
	if len(parts) == 0 {
		return "binds to nothing but the TPM"
	}
	return strings.Join(parts, ", ")
}

func bankSuffix(bank string) string {
	if bank == "" {
		return ""
	}
	return " (" + printable(bank) + ")"
}

func (m tokenMembers) fido2() string {
	var parts []string
	for _, need := range []struct {
		name string
		set  *bool
	}{{"PIN", m.PIN}, {"touch", m.Touch}, {"user verification", m.UV}} {
		if need.set != nil && *need.set {
			parts = append(parts, need.name)
		}
	}
	return strings.Join(parts, ", ")
}

func numbers(list []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", "+"), "[]")
}

// maxShown is the most of a text from a header that is shown, in bytes.
const maxShown = 256

// printable keeps text from a header from steering a terminal.
func printable(s string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(s) <= maxShown && utf8.ValidString(s) && !strings.ContainsFunc(s, odd) {
		return s
	}
	return strconv.Quote(s[:min(len(s), maxShown)])
}
