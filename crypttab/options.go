package crypttab

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockport/lockport/volume"
)

// Options is the whole option list of crypttab(5). [DefaultOptions] has the
// values that count when nothing is said; the zero value does not.
type Options struct {
	Type  Type
	Flags Flags

	Cipher     string // plain only
	Hash       string // plain only
	KeySize    uint32 // plain only: bits, 0 for the default
	SectorSize uint32 // plain only: bytes, 0 for the default
	Offset     uint64 // plain only: sectors of 512 bytes
	Skip       uint64 // plain only: sectors of 512 bytes

	Header       string // absolute path of a detached header, or ""
	HeaderDevice string // where Header lies when it is on a file system of its own, else ""
	KeySlot      int    // AnySlot for any; not checked against the slots that there can be

	KeyFileOffset uint64 // bytes
	KeyFileSize   uint32 // bytes, 0 for all
	KeyFileErase  bool   // overwrite and remove the key file after the attempt

	Timeout       time.Duration // for a person's answer; 0 is for ever
	Tries         uint          // 0 is endless
	Verify        bool          // ask for the passphrase twice
	Echo          volume.Echo
	Cache         Cache
	Headless      bool // never ask a person
	TryEmpty      bool // try the empty passphrase before asking
	TokenTimeout  time.Duration
	PKCS11        string // URI of the key, or Auto
	FIDO2         FIDO2
	TPM2          TPM2
	TCrypt        TCrypt
	VolumeKeyLink VolumeKeyLink
	FixedKey      string // what the volume key must be, from fixate-volume-key=

	Swap   bool   // make swap space on it each time
	MakeFS string // make this kind of file system on it each time, "" for none

	Boot Boot

	// Given has the names of all options in the list that count, as written and
	// in that order, without values.
	Given []string
}

// Type is the format of the volume.
type Type string

// The types of a volume. TypeAny is what an option list without a type means:
// LUKS, recognised by its header.
const (
	TypeAny       Type = ""
	TypeLUKS      Type = "luks"
	TypePlain     Type = "plain"
	TypeTrueCrypt Type = "tcrypt"
	TypeBitLocker Type = "bitlk"
)

// AnySlot is the KeySlot that tries all of them.
const AnySlot = -1

// Auto says of a device or key that it is to be found.
const Auto = "auto"

// Flags are the properties of the mapping that the kernel makes.
type Flags struct {
	Discard, SameCPUCrypt, SubmitFromCryptCPUs, NoReadWorkqueue, NoWriteWorkqueue, ReadOnly bool
}

// Cache says how typed passphrases are shared between volumes.
type Cache int

// The ways to share.
const (
	CacheYes Cache = iota
	CacheNo
	CacheReadOnly // use what others have typed, leave nothing behind
)

// FIDO2 has the options that begin with "fido2-". A nil bool leaves the choice
// to the token.
type FIDO2 struct {
	Device       string // path or Auto; "" when FIDO2 is not asked for
	CredentialID []byte // nil: from the token in the header
	RelyingParty string
	PIN, UP, UV  *bool
}

// TPM2 has the options that begin with "tpm2-".
type TPM2 struct {
	Device      string  // path or Auto; "" when the TPM2 is not asked for
	PCRs        *uint32 // mask; nil when not given
	PIN         bool
	Signature   string   // absolute path
	PCRLock     string   // absolute path
	MeasurePCR  int      // register that the volume key is measured to, NoPCR for none
	MeasureBank []string // hash names in lower case; empty: chosen by the TPM2
	NvPCR       string   // name of the register that the used slot is measured to, "" for none
}

// NoPCR is the MeasurePCR that measures nothing.
const NoPCR = -1

// TCrypt has the options of TrueCrypt and VeraCrypt volumes.
type TCrypt struct {
	Hidden, System, VeraCrypt bool
	PIM                       uint32
	KeyFiles                  []string // absolute paths
}

// VolumeKeyLink is the kernel key that link-volume-key= makes of the volume
// key. Keyring is "" when it is not asked for.
type VolumeKeyLink struct {
	Keyring     string // "@u", "@s" … or "%:NAME"
	KeyType     string // "user" when not given
	Description string
}

// Boot has what only matters to the order of booting: the units that are made
// from a table, not the unlocking.
type Boot struct {
	NoAuto, NoFail, NetDev, InInitrd bool

	KeyFileTimeout Wait // for the device of the key file, before asking for a passphrase
	DeviceTimeout  Wait // for the device itself
}

// Wait is a time that may not be given at all.
type Wait struct {
	Given bool
	For   time.Duration // 0 is for ever
}

// Warning is something in a table that is ignored.
type Warning struct {
	Option string // as written, "" when it is not about an option
	Text   string
}

func (w Warning) String() string {
	if w.Option == "" {
		return w.Text
	}
	return fmt.Sprintf("ignoring option %q: %s", w.Option, w.Text)
}

// DefaultOptions returns the meaning of an empty option list.
func DefaultOptions() Options {
	return Options{
		KeySlot:      AnySlot,
		Tries:        3,
		TokenTimeout: 30 * time.Second,
		TPM2:         TPM2{MeasurePCR: NoPCR},
	}
}

// ParseOptions reads an option list: separated by commas, which a backslash
// protects inside a value, as it does another backslash. "", "-" and "none" mean
// no options. When an option comes twice the later one counts.
//
// The error has everything for which the original refuses the volume, and then
// the options are zero. What the original ignores comes back as warnings.
// Options of our own begin with "x-lockport."; an unknown one is an error, as
// whoever wrote it expects something to happen.
func ParseOptions(s string) (Options, []Warning, error) {
	o := DefaultOptions()
	if isNone(s) {
		return o, nil, nil
	}
	words, err := splitOptions(s)
	if err != nil {
		return Options{}, nil, fmt.Errorf("reading options: %w", err)
	}
	var warnings []Warning
	var errs []error
	for _, word := range words {
		warning, err := o.set(word)
		if err != nil {
			errs = append(errs, fmt.Errorf("option %q: %w", word, err))
		}
		if warning != "" {
			warnings = append(warnings, Warning{Option: word, Text: warning})
		}
	}
	late, err := o.settle()
	if err := errors.Join(append(errs, err)...); err != nil {
		return Options{}, nil, err
	}
	return o, append(warnings, late...), nil
}

// splitOptions cuts at the commas and takes the backslashes away. Empty items
// are dropped: they say nothing.
func splitOptions(s string) ([]string, error) {
	if len(s) > maxLine {
		return nil, fmt.Errorf("longer than %d bytes", maxLine)
	}
	var words []string
	var word strings.Builder
	end := func() {
		if word.Len() > 0 {
			words = append(words, word.String())
		}
		word.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ',':
			end()
		case '\\':
			i++
			if i == len(s) || (s[i] != ',' && s[i] != '\\') {
				return nil, errors.New(`a backslash protects only a comma or another backslash`)
			}
			word.WriteByte(s[i])
		default:
			word.WriteByte(s[i])
		}
	}
	end()
	return words, nil
}

// set applies one option. The warning says why it was ignored.
func (o *Options) set(word string) (warning string, err error) {
	name, value, valued := strings.Cut(word, "=")
	if strings.HasPrefix(name, "x-lockport.") {
		return "", errors.New("this release knows no such option")
	}
	known := false
	for _, row := range options {
		if row.name != name {
			continue
		}
		known = true
		if valued != row.valued {
			continue
		}
		switch err := row.set(o, value); {
		case err == nil:
			o.Given = append(o.Given, name)
			return "", nil
		case row.strict:
			return "", err
		default:
			return err.Error(), nil
		}
	}
	switch {
	case known && valued:
		return "takes no value", nil
	case known:
		return "needs a value", nil
	}
	return "unknown", nil
}

// settle checks what depends on several options.
func (o *Options) settle() (warnings []Warning, err error) {
	if o.Type != TypeAny && o.Type != TypePlain && (o.Offset != 0 || o.Skip != 0) {
		warnings = append(warnings, Warning{Text: fmt.Sprintf("offset= and skip= mean nothing for type %s", o.Type)})
	}
	if o.PKCS11 == "" {
		return warnings, nil
	}
	if !o.has("password-cache") {
		o.Cache = CacheNo
	}
	if o.Cache != CacheNo {
		return nil, errors.New("the PIN of a smartcard cannot be cached: password-cache= and pkcs11-uri= exclude each other")
	}
	return warnings, nil
}

// has tells whether the list had an option of that name.
func (o *Options) has(name string) bool {
	for _, given := range o.Given {
		if given == name {
			return true
		}
	}
	return false
}
