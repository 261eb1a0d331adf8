package crypttab

// option is one spelling of one option. An option that is good with and without
// a value has two rows.
type option struct {
	name   string
	valued bool // written as name=value
	strict bool // a bad value is an error, not a warning
	set    func(o *Options, value string) error

	// missing tells whether the option asks for something that this release
	// does not do, so that going on without it would not be what was asked for.
	// Nil for what is built, for what only matters when booting, and for what
	// has an effect only together with an option that says so for both.
	missing func(o *Options) bool
}

// options is the list of crypttab(5). The missing column is to shrink.
var options = []option{
	// What kind of volume.
	{name: "luks", set: kind(TypeLUKS)},
	{name: "plain", set: kind(TypePlain), missing: isPlain},
	{name: "swap", set: setSwap, missing: isPlain},
	{name: "tmp", set: setTmp, missing: isPlain},
	{name: "tmp", valued: true, set: setTmp, missing: isPlain},
	{name: "bitlk", set: kind(TypeBitLocker), missing: isBitLocker},
	{name: "tcrypt", set: kind(TypeTrueCrypt), missing: isTrueCrypt},
	{name: "tcrypt-hidden", set: tcrypt(func(t *TCrypt) *bool { return &t.Hidden }), missing: isTrueCrypt},
	{name: "tcrypthidden", set: tcrypt(func(t *TCrypt) *bool { return &t.Hidden }), missing: isTrueCrypt},
	{name: "tcrypt-system", set: tcrypt(func(t *TCrypt) *bool { return &t.System }), missing: isTrueCrypt},
	{name: "tcrypt-veracrypt", set: tcrypt(func(t *TCrypt) *bool { return &t.VeraCrypt }), missing: isTrueCrypt},
	{name: "veracrypt", set: tcrypt(func(t *TCrypt) *bool { return &t.VeraCrypt }), missing: isTrueCrypt},
	{name: "tcrypt-keyfile", valued: true, set: setTCryptKeyFile, missing: isTrueCrypt},
	{name: "veracrypt-pim", valued: true, set: number32(func(o *Options) *uint32 { return &o.TCrypt.PIM }), missing: isTrueCrypt},

	// The shape of plain volumes.
	{name: "cipher", valued: true, set: text(func(o *Options) *string { return &o.Cipher })},
	{name: "hash", valued: true, set: text(func(o *Options) *string { return &o.Hash })},
	{name: "size", valued: true, set: setKeySize},
	{name: "sector-size", valued: true, set: setSectorSize},
	{name: "offset", valued: true, strict: true, set: number64(func(o *Options) *uint64 { return &o.Offset })},
	{name: "skip", valued: true, strict: true, set: number64(func(o *Options) *uint64 { return &o.Skip })},

	// Header, slot, key file.
	{name: "header", valued: true, strict: true, set: setHeader, missing: func(o *Options) bool { return o.HeaderDevice != "" }},
	{name: "key-slot", valued: true, set: setKeySlot},
	{name: "keyslot", valued: true, set: setKeySlot},
	{name: "keyfile-offset", valued: true, set: number64(func(o *Options) *uint64 { return &o.KeyFileOffset })},
	{name: "keyfile-size", valued: true, set: number32(func(o *Options) *uint32 { return &o.KeyFileSize })},
	{name: "keyfile-erase", set: on(func(o *Options) *bool { return &o.KeyFileErase })},
	{name: "keyfile-erase", valued: true, set: boolean(func(o *Options) *bool { return &o.KeyFileErase })},

	// The mapping.
	{name: "discard", set: on(func(o *Options) *bool { return &o.Flags.Discard })},
	{name: "allow-discards", set: on(func(o *Options) *bool { return &o.Flags.Discard })},
	{name: "same-cpu-crypt", set: on(func(o *Options) *bool { return &o.Flags.SameCPUCrypt })},
	{name: "submit-from-crypt-cpus", set: on(func(o *Options) *bool { return &o.Flags.SubmitFromCryptCPUs })},
	{name: "no-read-workqueue", set: on(func(o *Options) *bool { return &o.Flags.NoReadWorkqueue })},
	{name: "no-write-workqueue", set: on(func(o *Options) *bool { return &o.Flags.NoWriteWorkqueue })},
	{name: "read-only", set: on(func(o *Options) *bool { return &o.Flags.ReadOnly })},
	{name: "readonly", set: on(func(o *Options) *bool { return &o.Flags.ReadOnly })},

	// Asking a person.
	{name: "timeout", valued: true, set: setTimeout},
	{name: "tries", valued: true, set: setTries},
	{name: "verify", set: on(func(o *Options) *bool { return &o.Verify })},
	{name: "password-echo", valued: true, set: setEcho},
	{name: "password-cache", valued: true, set: setCache},
	{name: "headless", set: on(func(o *Options) *bool { return &o.Headless })},
	{name: "headless", valued: true, set: boolean(func(o *Options) *bool { return &o.Headless })},
	{name: "try-empty-password", set: on(func(o *Options) *bool { return &o.TryEmpty })},
	{name: "try-empty-password", valued: true, set: boolean(func(o *Options) *bool { return &o.TryEmpty })},

	// Security hardware.
	{name: "token-timeout", valued: true, set: setTokenTimeout},
	{name: "pkcs11-uri", valued: true, strict: true, set: setPKCS11},
	{name: "fido2-device", valued: true, set: text(func(o *Options) *string { return &o.FIDO2.Device })},
	{name: "fido2-cid", valued: true, strict: true, set: setCredentialID},
	{name: "fido2-rp", valued: true, set: text(func(o *Options) *string { return &o.FIDO2.RelyingParty })},
	{name: "fido2-pin", valued: true, set: choice(func(o *Options) **bool { return &o.FIDO2.PIN })},
	{name: "fido2-up", valued: true, set: choice(func(o *Options) **bool { return &o.FIDO2.UP })},
	{name: "fido2-uv", valued: true, set: choice(func(o *Options) **bool { return &o.FIDO2.UV })},
	{name: "tpm2-device", valued: true, set: text(func(o *Options) *string { return &o.TPM2.Device })},
	{name: "tpm2-pcrs", valued: true, strict: true, set: setPCRs},
	{name: "tpm2-pin", valued: true, set: boolean(func(o *Options) *bool { return &o.TPM2.PIN })},
	{name: "tpm2-signature", valued: true, strict: true, set: absolute(func(o *Options) *string { return &o.TPM2.Signature })},
	{name: "tpm2-pcrlock", valued: true, strict: true, set: absolute(func(o *Options) *string { return &o.TPM2.PCRLock })},
	{name: "tpm2-measure-pcr", valued: true, set: setMeasurePCR},
	{name: "tpm2-measure-bank", valued: true, strict: true, set: setMeasureBank},
	{name: "tpm2-measure-keyslot-nvpcr", valued: true, set: setNvPCR, missing: func(o *Options) bool { return o.TPM2.NvPCR != "" }},

	// The volume key.
	{name: "link-volume-key", valued: true, strict: true, set: setVolumeKeyLink, missing: always},
	{name: "fixate-volume-key", valued: true, set: text(func(o *Options) *string { return &o.FixedKey }), missing: func(o *Options) bool { return o.FixedKey != "" }},

	// Booting.
	{name: "noauto", set: on(func(o *Options) *bool { return &o.Boot.NoAuto })},
	{name: "auto", set: off(func(o *Options) *bool { return &o.Boot.NoAuto })},
	{name: "nofail", set: on(func(o *Options) *bool { return &o.Boot.NoFail })},
	{name: "fail", set: off(func(o *Options) *bool { return &o.Boot.NoFail })},
	{name: "_netdev", set: on(func(o *Options) *bool { return &o.Boot.NetDev })},
	{name: "x-initrd.attach", set: on(func(o *Options) *bool { return &o.Boot.InInitrd })},
	{name: "keyfile-timeout", set: setKeyFileTimeout},
	{name: "keyfile-timeout", valued: true, set: setKeyFileTimeout},
	{name: "x-systemd.device-timeout", valued: true, set: setDeviceTimeout},

	// Of Debian's own scripts, which read the same file.
	{name: "check", valued: true, set: debian},
	{name: "checkargs", valued: true, set: debian},
	{name: "keyscript", valued: true, set: debian},
	{name: "noearly", set: debian},
	{name: "loud", set: debian},
	{name: "quiet", set: debian},
	{name: "initramfs", set: debian},
}

// Unsupported returns the names of the options that ask for something which this
// release does not do, in the order of the list and as written there. Attaching
// a volume without heeding them would not be what was asked for, so it has to be
// refused by these names. Options that only matter when booting, or that have
// no effect without another one, are not among them.
func (o Options) Unsupported() []string {
	var names []string
	seen := map[string]bool{}
	for _, name := range o.Given {
		if !seen[name] && o.isMissing(name) {
			names = append(names, name)
		}
		seen[name] = true
	}
	return names
}

func (o *Options) isMissing(name string) bool {
	for _, row := range options {
		if row.name == name && row.missing != nil && row.missing(o) {
			return true
		}
	}
	return false
}

func always(*Options) bool { return true }

func isPlain(o *Options) bool     { return o.Type == TypePlain }
func isTrueCrypt(o *Options) bool { return o.Type == TypeTrueCrypt }
func isBitLocker(o *Options) bool { return o.Type == TypeBitLocker }
