package crypttab

import (
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/lockport/lockport/volume"
)

type setter = func(o *Options, value string) error

func on(field func(*Options) *bool) setter {
	return func(o *Options, _ string) error { *field(o) = true; return nil }
}

func off(field func(*Options) *bool) setter {
	return func(o *Options, _ string) error { *field(o) = false; return nil }
}

func boolean(field func(*Options) *bool) setter {
	return func(o *Options, value string) error {
		b, err := parseBool(value)
		if err == nil {
			*field(o) = b
		}
		return err
	}
}

func choice(field func(*Options) **bool) setter {
	return func(o *Options, value string) error {
		b, err := parseBool(value)
		if err == nil {
			*field(o) = &b
		}
		return err
	}
}

func text(field func(*Options) *string) setter {
	return func(o *Options, value string) error { *field(o) = value; return nil }
}

func absolute(field func(*Options) *string) setter {
	return func(o *Options, value string) error {
		if !path.IsAbs(value) {
			return errNotAbsolute
		}
		*field(o) = value
		return nil
	}
}

func number32(field func(*Options) *uint32) setter {
	return func(o *Options, value string) error {
		n, err := parseUint(value, 32)
		if err == nil {
			*field(o) = uint32(n)
		}
		return err
	}
}

func number64(field func(*Options) *uint64) setter {
	return func(o *Options, value string) error {
		n, err := parseUint(value, 64)
		if err == nil {
			*field(o) = n
		}
		return err
	}
}

func kind(t Type) setter {
	return func(o *Options, _ string) error { o.Type = t; return nil }
}

func tcrypt(field func(*TCrypt) *bool) setter {
	return func(o *Options, _ string) error {
		o.Type = TypeTrueCrypt
		*field(&o.TCrypt) = true
		return nil
	}
}

var errNotAbsolute = errors.New("not an absolute path")

func debian(*Options, string) error { return errors.New("known to Debian's scripts only") }

func setTCryptKeyFile(o *Options, value string) error {
	o.Type = TypeTrueCrypt
	if !path.IsAbs(value) {
		return errNotAbsolute
	}
	o.TCrypt.KeyFiles = append(o.TCrypt.KeyFiles, value)
	return nil
}

func setSwap(o *Options, _ string) error {
	o.Type, o.Swap = TypePlain, true
	return nil
}

func setTmp(o *Options, value string) error {
	if value == "" {
		value = "ext4"
	}
	o.Type, o.MakeFS = TypePlain, value
	return nil
}

func setKeySize(o *Options, value string) error {
	bits, err := parseUint(value, 32)
	if err != nil {
		return err
	}
	if bits%8 != 0 {
		return errors.New("not a multiple of 8")
	}
	o.KeySize = uint32(bits)
	return nil
}

func setSectorSize(o *Options, value string) error {
	size, err := parseUint(value, 32)
	if err != nil {
		return err
	}
	if size < 512 || size > 4096 || size%2 != 0 {
		return errors.New("not an even number from 512 to 4096")
	}
	o.SectorSize = uint32(size)
	return nil
}

func setHeader(o *Options, value string) error {
	if o.Type != TypeTrueCrypt {
		o.Type = TypeLUKS
	}
	if !path.IsAbs(value) {
		return errNotAbsolute
	}
	if o.Header != "" {
		return errors.New("given twice")
	}
	o.Header, o.HeaderDevice = splitDevice(value)
	return nil
}

func setKeySlot(o *Options, value string) error {
	o.Type = TypeLUKS
	slot, err := parseInt(value)
	if err == nil {
		o.KeySlot = slot
	}
	return err
}

func setTries(o *Options, value string) error {
	n, err := parseUint(value, 32)
	if err == nil {
		o.Tries = uint(n)
	}
	return err
}

func setEcho(o *Options, value string) error {
	if value == "masked" {
		o.Echo = volume.EchoMasked
		return nil
	}
	b, err := parseBool(value)
	if err != nil {
		return errors.New(`not "masked", and ` + err.Error())
	}
	o.Echo = volume.EchoNone
	if b {
		o.Echo = volume.EchoPlain
	}
	return nil
}

func setCache(o *Options, value string) error {
	if value == "read-only" {
		o.Cache = CacheReadOnly
		return nil
	}
	b, err := parseBool(value)
	if err != nil {
		return errors.New(`not "read-only", and ` + err.Error())
	}
	o.Cache = CacheNo
	if b {
		o.Cache = CacheYes
	}
	return nil
}

// setPKCS11 looks at the URI only so far as the original does: RFC 7512 is the
// smartcard's business.
func setPKCS11(o *Options, value string) error {
	if value != Auto {
		rest, found := strings.CutPrefix(value, "pkcs11:")
		if !found || rest == "" || strings.ContainsFunc(rest, isNoURI) {
			return errors.New(`neither "auto" nor a PKCS#11 URI`)
		}
	}
	o.PKCS11 = value
	return nil
}

func isNoURI(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`{|}", r)
}

func setCredentialID(o *Options, value string) error {
	var id []byte
	if value != Auto {
		var err error
		if id, err = base64.StdEncoding.Strict().DecodeString(value); err != nil {
			return errors.New("not a credential in base64")
		}
	}
	o.FIDO2.CredentialID = id
	if o.FIDO2.Device == "" {
		o.FIDO2.Device = Auto
	}
	return nil
}

// setPCRs adds to the mask when the option comes again, as the original does.
func setPCRs(o *Options, value string) error {
	mask, err := parsePCRs(value)
	if err != nil {
		return err
	}
	if o.TPM2.PCRs != nil {
		mask |= *o.TPM2.PCRs
	}
	o.TPM2.PCRs = &mask
	return nil
}

func setMeasurePCR(o *Options, value string) error {
	const systemIdentity = 15
	// A number comes before a boolean: 1 is a register.
	if n, err := parseUint(value, 32); err == nil {
		if n >= pcrCount {
			return fmt.Errorf("there is no PCR %d", n)
		}
		o.TPM2.MeasurePCR = int(n)
		return nil
	}
	b, err := parseBool(value)
	if err != nil {
		return errors.New("neither a PCR nor a boolean")
	}
	o.TPM2.MeasurePCR = NoPCR
	if b {
		o.TPM2.MeasurePCR = systemIdentity
	}
	return nil
}

func setMeasureBank(o *Options, value string) error {
	for _, bank := range strings.FieldsFunc(strings.ToLower(value), func(r rune) bool { return r == ':' }) {
		if !isBank(bank) {
			return fmt.Errorf("unknown bank %q", bank)
		}
		o.TPM2.MeasureBank = append(o.TPM2.MeasureBank, bank)
	}
	return nil
}

func setNvPCR(o *Options, value string) error {
	b, err := parseBool(value)
	switch {
	case err == nil && b:
		o.TPM2.NvPCR = "cryptsetup"
	case err == nil || value == "":
		o.TPM2.NvPCR = ""
	case CheckName(value) != nil || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return errors.New("neither a name nor a boolean")
	default:
		o.TPM2.NvPCR = value
	}
	return nil
}

// setVolumeKeyLink reads KEYRING::[%TYPE:]DESCRIPTION.
func setVolumeKeyLink(o *Options, value string) error {
	keyring, description, found := strings.Cut(value, "::")
	if !found || keyring == "" {
		return errors.New("not of the form KEYRING::DESCRIPTION")
	}
	if keyring[0] != '@' && keyring[0] != '%' {
		keyring = "%:" + keyring
	}
	keyType := "user"
	if typed, found := strings.CutPrefix(description, "%"); found {
		if keyType, description, found = strings.Cut(typed, ":"); !found {
			return errors.New("key type has no colon after it")
		}
	}
	o.VolumeKeyLink = VolumeKeyLink{Keyring: keyring, KeyType: keyType, Description: description}
	return nil
}

func setTimeout(o *Options, value string) error {
	d, err := parseWait(value)
	if err == nil {
		o.Timeout = d
	}
	return err
}

func setTokenTimeout(o *Options, value string) error {
	d, err := parseWait(value)
	if err == nil {
		o.TokenTimeout = d
	}
	return err
}

// setKeyFileTimeout counts even with a bad value, or none: the boot goes on
// without the key.
func setKeyFileTimeout(o *Options, value string) error {
	o.Boot.KeyFileTimeout = Wait{Given: true}
	if value == "" {
		return nil
	}
	d, err := parseWait(value)
	o.Boot.KeyFileTimeout.For = d
	return err
}

func setDeviceTimeout(o *Options, value string) error {
	d, err := parseWait(value)
	if err == nil {
		o.Boot.DeviceTimeout = Wait{Given: true, For: d}
	}
	return err
}
