package crypttab

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockport/lockport/secret/secrettest"
	"github.com/lockport/lockport/volume"
)

func TestMain(m *testing.M) { secrettest.Main(m) }

func ptr[T any](v T) *T { return &v }

// want returns the default options as change leaves them.
func want(given string, change func(o *Options)) Options {
	o := DefaultOptions()
	change(&o)
	if given != "" {
		o.Given = strings.Split(given, " ")
	}
	return o
}

// TestOptions has every option of crypttab(5) with the values that it takes.
func TestOptions(t *testing.T) {
	t.Parallel()
	type change = func(o *Options)
	cid := []byte{1, 2, 3, 4}
	tests := []struct {
		list   string
		given  string
		change change
	}{
		{"", "", func(*Options) {}},
		{"-", "", func(*Options) {}},
		{"none", "", func(*Options) {}},
		{",,", "", func(*Options) {}},
		{"cipher=aes-xts-plain64", "cipher", func(o *Options) { o.Cipher = "aes-xts-plain64" }},
		{`cipher=a\,b\\c`, "cipher", func(o *Options) { o.Cipher = `a,b\c` }},
		{"hash=plain", "hash", func(o *Options) { o.Hash = "plain" }},
		{"size=512", "size", func(o *Options) { o.KeySize = 512 }},
		{"size=0x100", "size", func(o *Options) { o.KeySize = 256 }},
		{"size=0400", "size", func(o *Options) { o.KeySize = 256 }},
		{"sector-size=4096", "sector-size", func(o *Options) { o.SectorSize = 4096 }},
		{"plain,offset=8,skip=16", "plain offset skip", func(o *Options) { o.Type, o.Offset, o.Skip = TypePlain, 8, 16 }},
		{"header=/h.img", "header", func(o *Options) { o.Type, o.Header = TypeLUKS, "/h.img" }},
		{"header=/h:x", "header", func(o *Options) { o.Type, o.Header = TypeLUKS, "/h:x" }},
		{"header=/h:UUID=1-2", "header", func(o *Options) { o.Type, o.Header, o.HeaderDevice = TypeLUKS, "/h", "UUID=1-2" }},
		{"header=/h:/dev/sdb", "header", func(o *Options) { o.Type, o.Header, o.HeaderDevice = TypeLUKS, "/h", "/dev/sdb" }},
		{"tcrypt,header=/h", "tcrypt header", func(o *Options) { o.Type, o.Header = TypeTrueCrypt, "/h" }},
		{"plain,header=/h", "plain header", func(o *Options) { o.Type, o.Header = TypeLUKS, "/h" }},
		{"key-slot=3", "key-slot", func(o *Options) { o.Type, o.KeySlot = TypeLUKS, 3 }},
		{"keyslot=-1", "keyslot", func(o *Options) { o.Type, o.KeySlot = TypeLUKS, AnySlot }},
		{"keyfile-offset=4294967296", "keyfile-offset", func(o *Options) { o.KeyFileOffset = 1 << 32 }},
		{"keyfile-size= +64", "keyfile-size", func(o *Options) { o.KeyFileSize = 64 }},
		{"keyfile-erase", "keyfile-erase", func(o *Options) { o.KeyFileErase = true }},
		{"keyfile-erase=On", "keyfile-erase", func(o *Options) { o.KeyFileErase = true }},
		{"keyfile-erase,keyfile-erase=0", "keyfile-erase keyfile-erase", func(*Options) {}},
		{"keyfile-timeout", "keyfile-timeout", func(o *Options) { o.Boot.KeyFileTimeout = Wait{Given: true} }},
		{"keyfile-timeout=1min", "keyfile-timeout", func(o *Options) { o.Boot.KeyFileTimeout = Wait{true, time.Minute} }},
		{"discard", "discard", func(o *Options) { o.Flags.Discard = true }},
		{"allow-discards", "allow-discards", func(o *Options) { o.Flags.Discard = true }},
		{"same-cpu-crypt", "same-cpu-crypt", func(o *Options) { o.Flags.SameCPUCrypt = true }},
		{"submit-from-crypt-cpus", "submit-from-crypt-cpus", func(o *Options) { o.Flags.SubmitFromCryptCPUs = true }},
		{"no-read-workqueue", "no-read-workqueue", func(o *Options) { o.Flags.NoReadWorkqueue = true }},
		{"no-write-workqueue", "no-write-workqueue", func(o *Options) { o.Flags.NoWriteWorkqueue = true }},
		{"read-only", "read-only", func(o *Options) { o.Flags.ReadOnly = true }},
		{"readonly", "readonly", func(o *Options) { o.Flags.ReadOnly = true }},
		{"luks", "luks", func(o *Options) { o.Type = TypeLUKS }},
		{"plain", "plain", func(o *Options) { o.Type = TypePlain }},
		{"bitlk", "bitlk", func(o *Options) { o.Type = TypeBitLocker }},
		{"tcrypt", "tcrypt", func(o *Options) { o.Type = TypeTrueCrypt }},
		{"plain,luks", "plain luks", func(o *Options) { o.Type = TypeLUKS }},
		{"tcrypt-hidden", "tcrypt-hidden", func(o *Options) { o.Type, o.TCrypt.Hidden = TypeTrueCrypt, true }},
		{"tcrypthidden", "tcrypthidden", func(o *Options) { o.Type, o.TCrypt.Hidden = TypeTrueCrypt, true }},
		{"tcrypt-system", "tcrypt-system", func(o *Options) { o.Type, o.TCrypt.System = TypeTrueCrypt, true }},
		{"tcrypt-veracrypt", "tcrypt-veracrypt", func(o *Options) { o.Type, o.TCrypt.VeraCrypt = TypeTrueCrypt, true }},
		{"veracrypt", "veracrypt", func(o *Options) { o.Type, o.TCrypt.VeraCrypt = TypeTrueCrypt, true }},
		{"veracrypt-pim=485", "veracrypt-pim", func(o *Options) { o.TCrypt.PIM = 485 }},
		{"tcrypt-keyfile=/a,tcrypt-keyfile=/b", "tcrypt-keyfile tcrypt-keyfile", func(o *Options) {
			o.Type, o.TCrypt.KeyFiles = TypeTrueCrypt, []string{"/a", "/b"}
		}},
		{"swap", "swap", func(o *Options) { o.Type, o.Swap = TypePlain, true }},
		{"tmp", "tmp", func(o *Options) { o.Type, o.MakeFS = TypePlain, "ext4" }},
		{"tmp=xfs", "tmp", func(o *Options) { o.Type, o.MakeFS = TypePlain, "xfs" }},
		{"timeout=90", "timeout", func(o *Options) { o.Timeout = 90 * time.Second }},
		{"timeout=1min 30s", "timeout", func(o *Options) { o.Timeout = 90 * time.Second }},
		{"timeout=5,timeout=0", "timeout timeout", func(*Options) {}},
		{"tries=5", "tries", func(o *Options) { o.Tries = 5 }},
		{"tries=0", "tries", func(o *Options) { o.Tries = 0 }},
		{"verify", "verify", func(o *Options) { o.Verify = true }},
		{"password-echo=yes", "password-echo", func(o *Options) { o.Echo = volume.EchoPlain }},
		{"password-echo=no", "password-echo", func(o *Options) { o.Echo = volume.EchoNone }},
		{"password-echo=no,password-echo=masked", "password-echo password-echo", func(*Options) {}},
		{"password-cache=yes", "password-cache", func(*Options) {}},
		{"password-cache=no", "password-cache", func(o *Options) { o.Cache = CacheNo }},
		{"password-cache=read-only", "password-cache", func(o *Options) { o.Cache = CacheReadOnly }},
		{"headless", "headless", func(o *Options) { o.Headless = true }},
		{"headless=y", "headless", func(o *Options) { o.Headless = true }},
		{"headless=n", "headless", func(*Options) {}},
		{"try-empty-password", "try-empty-password", func(o *Options) { o.TryEmpty = true }},
		{"try-empty-password=t", "try-empty-password", func(o *Options) { o.TryEmpty = true }},
		{"token-timeout=2min", "token-timeout", func(o *Options) { o.TokenTimeout = 2 * time.Minute }},
		{"token-timeout=infinity", "token-timeout", func(o *Options) { o.TokenTimeout = 0 }},
		{"pkcs11-uri=auto", "pkcs11-uri", func(o *Options) { o.PKCS11, o.Cache = Auto, CacheNo }},
		{"pkcs11-uri=pkcs11:token=a%20b;object=x,password-cache=no", "pkcs11-uri password-cache", func(o *Options) {
			o.PKCS11, o.Cache = "pkcs11:token=a%20b;object=x", CacheNo
		}},
		{"fido2-device=auto", "fido2-device", func(o *Options) { o.FIDO2.Device = Auto }},
		{"fido2-device=/dev/hidraw1,fido2-cid=AQIDBA==", "fido2-device fido2-cid", func(o *Options) {
			o.FIDO2.Device, o.FIDO2.CredentialID = "/dev/hidraw1", cid
		}},
		{"fido2-cid=AQIDBA==", "fido2-cid", func(o *Options) { o.FIDO2.Device, o.FIDO2.CredentialID = Auto, cid }},
		{"fido2-cid=auto", "fido2-cid", func(o *Options) { o.FIDO2.Device = Auto }},
		{"fido2-rp=example.org", "fido2-rp", func(o *Options) { o.FIDO2.RelyingParty = "example.org" }},
		{"fido2-pin=yes,fido2-up=no,fido2-uv=1", "fido2-pin fido2-up fido2-uv", func(o *Options) {
			o.FIDO2.PIN, o.FIDO2.UP, o.FIDO2.UV = ptr(true), ptr(false), ptr(true)
		}},
		{"tpm2-device=auto", "tpm2-device", func(o *Options) { o.TPM2.Device = Auto }},
		{"tpm2-device=/dev/tpmrm0", "tpm2-device", func(o *Options) { o.TPM2.Device = "/dev/tpmrm0" }},
		{"tpm2-pcrs=0+secure-boot-policy", "tpm2-pcrs", func(o *Options) { o.TPM2.PCRs = ptr[uint32](1<<0 | 1<<7) }},
		{`tpm2-pcrs=1\,2,tpm2-pcrs=9`, "tpm2-pcrs tpm2-pcrs", func(o *Options) { o.TPM2.PCRs = ptr[uint32](1<<1 | 1<<2 | 1<<9) }},
		{"tpm2-pcrs=7:sha256=00ff+23:sha1", "tpm2-pcrs", func(o *Options) { o.TPM2.PCRs = ptr[uint32](1<<7 | 1<<23) }},
		{"tpm2-pcrs=", "tpm2-pcrs", func(o *Options) { o.TPM2.PCRs = ptr[uint32](0) }},
		{"tpm2-pin=true", "tpm2-pin", func(o *Options) { o.TPM2.PIN = true }},
		{"tpm2-signature=/s.json", "tpm2-signature", func(o *Options) { o.TPM2.Signature = "/s.json" }},
		{"tpm2-pcrlock=/l.json", "tpm2-pcrlock", func(o *Options) { o.TPM2.PCRLock = "/l.json" }},
		{"tpm2-measure-pcr=yes", "tpm2-measure-pcr", func(o *Options) { o.TPM2.MeasurePCR = 15 }},
		{"tpm2-measure-pcr=1", "tpm2-measure-pcr", func(o *Options) { o.TPM2.MeasurePCR = 1 }},
		{"tpm2-measure-pcr=no", "tpm2-measure-pcr", func(*Options) {}},
		{"tpm2-measure-bank=SHA1:sha256", "tpm2-measure-bank", func(o *Options) { o.TPM2.MeasureBank = []string{"sha1", "sha256"} }},
		{"tpm2-measure-keyslot-nvpcr=yes", "tpm2-measure-keyslot-nvpcr", func(o *Options) { o.TPM2.NvPCR = "cryptsetup" }},
		{"tpm2-measure-keyslot-nvpcr=mine", "tpm2-measure-keyslot-nvpcr", func(o *Options) { o.TPM2.NvPCR = "mine" }},
		{"tpm2-measure-keyslot-nvpcr=", "tpm2-measure-keyslot-nvpcr", func(*Options) {}},
		{"fixate-volume-key=abc", "fixate-volume-key", func(o *Options) { o.FixedKey = "abc" }},
		{"link-volume-key=@u::mykey", "link-volume-key", func(o *Options) { o.VolumeKeyLink = VolumeKeyLink{"@u", "user", "mykey"} }},
		{"link-volume-key=ring::%logon:a:b", "link-volume-key", func(o *Options) { o.VolumeKeyLink = VolumeKeyLink{"%:ring", "logon", "a:b"} }},
		{"noauto", "noauto", func(o *Options) { o.Boot.NoAuto = true }},
		{"noauto,auto", "noauto auto", func(*Options) {}},
		{"nofail", "nofail", func(o *Options) { o.Boot.NoFail = true }},
		{"nofail,fail", "nofail fail", func(*Options) {}},
		{"_netdev", "_netdev", func(o *Options) { o.Boot.NetDev = true }},
		{"x-systemd.device-timeout=0", "x-systemd.device-timeout", func(o *Options) { o.Boot.DeviceTimeout = Wait{Given: true} }},
		{"x-initrd.attach", "x-initrd.attach", func(o *Options) { o.Boot.InInitrd = true }},
	}
	covered := map[string]bool{}
	for _, test := range tests {
		got, warnings, err := ParseOptions(test.list)
		if err != nil || warnings != nil {
			t.Errorf("%q: warnings %v, error %v", test.list, warnings, err)
		}
		if diff := cmp.Diff(want(test.given, test.change), got); diff != "" {
			t.Errorf("%q: -want +got:\n%s", test.list, diff)
		}
		for _, name := range got.Given {
			covered[name] = true
		}
	}
	for _, row := range options {
		if !covered[row.name] && !strings.Contains(" check checkargs keyscript noearly loud quiet initramfs ", " "+row.name+" ") {
			t.Errorf("no test has option %q", row.name)
		}
	}
}

// TestOptionNames holds the table against the list of the manual.
func TestOptionNames(t *testing.T) {
	t.Parallel()
	const manual = `cipher= hash= size= sector-size= offset= skip= header= key-slot= keyslot= keyfile-offset= keyfile-size=
		keyfile-erase keyfile-erase= keyfile-timeout keyfile-timeout= discard allow-discards same-cpu-crypt
		submit-from-crypt-cpus no-read-workqueue no-write-workqueue read-only readonly luks plain bitlk tcrypt
		tcrypt-hidden tcrypthidden tcrypt-system tcrypt-keyfile= tcrypt-veracrypt veracrypt veracrypt-pim= swap tmp tmp=
		timeout= tries= verify password-echo= password-cache= headless headless= try-empty-password try-empty-password=
		token-timeout= pkcs11-uri= fido2-device= fido2-cid= fido2-rp= fido2-pin= fido2-up= fido2-uv= tpm2-device=
		tpm2-pcrs= tpm2-pin= tpm2-signature= tpm2-pcrlock= tpm2-measure-pcr= tpm2-measure-bank=
		tpm2-measure-keyslot-nvpcr= fixate-volume-key= link-volume-key= noauto auto nofail fail _netdev
		x-systemd.device-timeout= x-initrd.attach check= checkargs= noearly loud quiet keyscript= initramfs`
	rows := map[string]bool{}
	for _, row := range options {
		name := row.name
		if row.valued {
			name += "="
		}
		if rows[name] {
			t.Errorf("%s has two rows", name)
		}
		rows[name] = true
	}
	for _, name := range strings.Fields(manual) {
		if !rows[name] {
			t.Errorf("%s has no row", name)
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("%s is not in the manual", name)
	}
}

// TestIgnored has what the original warns about and ignores. The other option
// must survive it.
func TestIgnored(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"no-such-option", "no-such=1", "discard=yes", "luks=1", "size", "timeout", "x-systemd.requires=a", "fido2-device",
		"size=", "size=abc", "size=12", "size=-8", "size=4294967296", "size=1_6", "sector-size=x", "sector-size=513",
		"sector-size=256", "sector-size=8192", "keyfile-offset=x", "keyfile-offset=18446744073709551616",
		"keyfile-size=-1", "keyfile-size=4294967296", "keyfile-erase=maybe", "tries=many", "veracrypt-pim=x",
		"timeout=soon", "timeout=", "timeout=-1", "timeout=5 parsecs", "timeout=3.s", "timeout=1000000y", "timeout=.",
		"token-timeout=x", "password-echo=stars", "password-cache=x", "headless=x", "try-empty-password=2",
		"fido2-pin=x", "fido2-up=x", "fido2-uv=x", "tpm2-pin=x", "tpm2-measure-pcr=24", "tpm2-measure-pcr=x",
		"tpm2-measure-keyslot-nvpcr=a/b", "x-systemd.device-timeout=x",
		"check=blkid", "checkargs=ext4", "noearly", "loud", "quiet", "keyscript=/x", "initramfs",
	} {
		got, warnings, err := ParseOptions(bad + ",discard")
		if err != nil {
			t.Errorf("%q: %v", bad, err)
			continue
		}
		if len(warnings) != 1 || warnings[0].Option != bad || !strings.Contains(warnings[0].String(), bad) {
			t.Errorf("%q: warnings %q", bad, warnings)
		}
		if diff := cmp.Diff(want("discard", func(o *Options) { o.Flags.Discard = true }), got); diff != "" {
			t.Errorf("%q left something behind:\n%s", bad, diff)
		}
	}
	// These still say what type of volume it is, or that the key may be late.
	for bad, change := range map[string]func(o *Options){
		"key-slot=x":         func(o *Options) { o.Type = TypeLUKS },
		"keyslot=4294967296": func(o *Options) { o.Type = TypeLUKS },
		"tcrypt-keyfile=a":   func(o *Options) { o.Type = TypeTrueCrypt },
		"keyfile-timeout=x":  func(o *Options) { o.Boot.KeyFileTimeout.Given = true },
		"luks,offset=5":      func(o *Options) { o.Type, o.Offset, o.Given = TypeLUKS, 5, []string{"luks", "offset"} },
	} {
		got, warnings, err := ParseOptions(bad)
		if err != nil || len(warnings) != 1 {
			t.Errorf("%q: warnings %v, error %v", bad, warnings, err)
		}
		if diff := cmp.Diff(want("", change), got); diff != "" {
			t.Errorf("%q: -want +got:\n%s", bad, diff)
		}
	}
}

// TestRefused has what the original stops at.
func TestRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"header=h":                                 "not an absolute path",
		"header=/a,header=/a":                      "given twice",
		"offset=x":                                 "not a number",
		"offset=18446744073709551616":              "out of range",
		"skip=-1":                                  "not a number",
		"pkcs11-uri=foo":                           "PKCS#11 URI",
		"pkcs11-uri=pkcs11:":                       "PKCS#11 URI",
		"pkcs11-uri=pkcs11:a b":                    "PKCS#11 URI",
		"pkcs11-uri=auto,password-cache=yes":       "exclude each other",
		"password-cache=read-only,pkcs11-uri=auto": "exclude each other",
		"fido2-cid=AQ":                             "base64",
		"tpm2-pcrs=24":                             `no PCR "24"`,
		"tpm2-pcrs=7:md5":                          "no sense",
		"tpm2-pcrs=7:sha256=xyz":                   "no sense",
		"tpm2-signature=s":                         "not an absolute path",
		"tpm2-pcrlock=l":                           "not an absolute path",
		"tpm2-measure-bank=sha256:md4":             `unknown bank "md4"`,
		"link-volume-key=@u:x":                     "KEYRING::DESCRIPTION",
		"link-volume-key=@u::%user":                "no colon",
		"x-lockport.magic":                         "knows no such option",
		"x-lockport.magic=1":                       "knows no such option",
		`cipher=a\054b`:                            "backslash",
		`discard\`:                                 "backslash",
		strings.Repeat("discard,", 9000):           "longer than",
	}
	for list, text := range tests {
		got, warnings, err := ParseOptions(list)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%.60q: got error %v, want %q", list, err, text)
		}
		if diff := cmp.Diff(Options{}, got); diff != "" || warnings != nil {
			t.Errorf("%.60q: an error and a value: %s %v", list, diff, warnings)
		}
	}
	_, _, err := ParseOptions("offset=x,skip=y")
	if err == nil || !strings.Contains(err.Error(), "offset=x") || !strings.Contains(err.Error(), "skip=y") {
		t.Errorf("not all errors are told: %v", err)
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"": "",
		"luks,discard,size=256,cipher=x,hash=y,offset=1":        "",
		"noauto,nofail,_netdev,x-initrd.attach,keyfile-timeout": "",
		"verify,tries=1,headless,try-empty-password,header=/h":  "",
		"token-timeout=1,password-cache=no,keyslot=1":           "",
		"tpm2-pcrs=7,tpm2-pin=yes,tpm2-measure-pcr=no":          "",
		"fido2-rp=x,veracrypt-pim=1,tpm2-measure-bank=sha256":   "",
		"tpm2-measure-keyslot-nvpcr=no,plain,luks":              "",
		"plain,cipher=x": "plain",
		"swap,size=256":  "swap",
		"tmp=xfs,nofail": "tmp",
		"bitlk":          "bitlk",
		"tcrypt-hidden,tcrypt-keyfile=/a,tcrypt-keyfile=/b":              "tcrypt-hidden tcrypt-keyfile",
		"veracrypt,veracrypt-pim=1":                                      "veracrypt veracrypt-pim",
		"tcrypt,tcrypthidden,tcrypt-system,tcrypt-veracrypt":             "tcrypt tcrypthidden tcrypt-system tcrypt-veracrypt",
		"tpm2-device=auto,discard,tpm2-pcrs=7":                           "",
		"tpm2-pin=1,tpm2-signature=/a,tpm2-pcrlock=/b,tpm2-device=auto":  "",
		"fido2-device=auto,fido2-rp=x,fido2-pin=1,fido2-up=1,fido2-uv=1": "",
		"fido2-cid=AQIDBA==":                                             "",
		"pkcs11-uri=auto":                                                "",
		"tpm2-measure-pcr=yes,tpm2-measure-bank=sha256":                  "",
		"tpm2-measure-keyslot-nvpcr=yes":                                 "tpm2-measure-keyslot-nvpcr",
		"link-volume-key=@u::k,fixate-volume-key=abc":                    "link-volume-key fixate-volume-key",
		"header=/h:LABEL=x":                                              "header",
	}
	named := map[string]bool{}
	for list, text := range tests {
		o, _, err := ParseOptions(list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
		}
		if got := strings.Join(o.Unsupported(), " "); got != text {
			t.Errorf("%q: got %q, want %q", list, got, text)
		}
		for _, name := range o.Unsupported() {
			named[name] = true
		}
	}
	for _, row := range options {
		if row.missing != nil && !named[row.name] {
			t.Errorf("no test has %s as unsupported", row.name)
		}
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"5": 5 * time.Second, "5s": 5 * time.Second, "5 sec": 5 * time.Second, " 5 ": 5 * time.Second, "+5": 5 * time.Second,
		"1.5s": 1500 * time.Millisecond, ".22": 220 * time.Millisecond, "0.5min": 30 * time.Second,
		"1min30s": 90 * time.Second, "1 h 2 m 3 s": time.Hour + 2*time.Minute + 3*time.Second,
		"7ms": 7 * time.Millisecond, "8us": 8 * time.Microsecond, "9µs": 9 * time.Microsecond, "9μs": 9 * time.Microsecond,
		"2d": 48 * time.Hour, "1w": 168 * time.Hour, "1M": 2629800 * time.Second, "1year": 31557600 * time.Second,
		"infinity": 0, " infinity ": 0, "0": 0, "0s 0": 0, "1.0000000000000000001s": time.Second,
	} {
		if got, err := parseWait(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", " ", "s", "5x", "1..2", "1.", "1.s", "-5", "5s!", "infinity 1", "99999999999999999999", "300y", "150y 150y"} {
		if got, err := parseWait(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

// FuzzParseOptions wants a list that parses to say the same when its words are
// put together again.
func FuzzParseOptions(f *testing.F) {
	f.Add(`cipher=a\,b\\,header=/h:UUID=1,tries=0,timeout=1min 30s`)
	f.Add("tpm2-device=auto,tpm2-pcrs=7:sha256=00+ima,fido2-cid=AQIDBA==,pkcs11-uri=auto")
	f.Add("link-volume-key=@u::%user:x,tmp=xfs,x-lockport.a,keyfile-timeout=.5M,key-slot=-3")
	f.Fuzz(func(t *testing.T, list string) {
		first, warnings, err := ParseOptions(list)
		if err != nil {
			return
		}
		words, err := splitOptions(list)
		if err != nil || len(first.Given)+len(warnings) > len(words)+1 {
			t.Fatalf("%q: %d options and %d warnings of %d words, %v", list, len(first.Given), len(warnings), len(words), err)
		}
		if isNone(list) {
			return
		}
		escape := strings.NewReplacer(`\`, `\\`, ",", `\,`)
		for i := range words {
			words[i] = escape.Replace(words[i])
		}
		// The empty item keeps a single "-" or "none" an option.
		again, _, err := ParseOptions("," + strings.Join(words, ","))
		if err != nil && len(list) < maxLine/2 {
			t.Fatalf("%q: %v", list, err)
		}
		if diff := cmp.Diff(first, again); err == nil && diff != "" {
			t.Fatalf("%q: -first +again:\n%s", list, diff)
		}
		first.Unsupported()
	})
}

func FuzzParse(f *testing.F) {
	sample, err := os.ReadFile("testdata/generator.crypttab")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sample))
	f.Add("a b\x00\n\n#\na /dev/sdb /k:LABEL=\"x y\" plain,offset=1 # no\na -\n")
	f.Fuzz(func(t *testing.T, table string) {
		entries, _ := Parse(strings.NewReader(table))
		for _, e := range entries {
			if len(e.Fields) < 2 || len(e.Fields) > 4 || e.Name == "" || e.Line < 1 {
				t.Fatalf("%q: entry %+v", table, e)
			}
			e.Unsupported()
			DeviceNode(e.Device)
			again, err := Parse(strings.NewReader(strings.Join(e.Fields, "\t")))
			if err != nil || len(again) != 1 {
				t.Fatalf("%q: line %d parses to %d entries, %v", table, e.Line, len(again), err)
			}
			if diff := cmp.Diff(e.Options, again[0].Options); diff != "" {
				t.Fatalf("%q: -first +again:\n%s", table, diff)
			}
		}
	})
}
