//go:build vm

package guest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	systemdMeasure = "/usr/lib/systemd/systemd-measure"
	systemdPCRLock = "/usr/lib/systemd/systemd-pcrlock"

	// debugPCR and appPCR are the two that software may reset.
	debugPCR, appPCR = 16, 23
	signedPCR        = 11
)

// side is one of the two programs that have to understand each other.
type side struct{ enroll, attach, detach []string }

var (
	ours   = side{[]string{"lockport", "enroll"}, []string{"lockport", "attach"}, []string{"lockport", "detach"}}
	theirs = side{[]string{"systemd-cryptenroll"}, []string{systemdCryptsetup, "attach"}, []string{systemdCryptsetup, "detach"}}
	sides  = []side{ours, theirs}
)

func (s side) String() string { return filepath.Base(s.enroll[0]) }

// with is a command of several words.
func with(command []string, args ...string) []string {
	return append(append([]string{}, command...), args...)
}

// enrollTPM enrols in place of all TPM2 keyslots that there are. Those go first:
// both programs leave a slot as it is that has the same policy already.
func (s side) enrollTPM(t testing.TB, dev string, env []string, args ...string) {
	t.Helper()
	run(t, "systemd-cryptenroll", "--wipe-slot=tpm2", dev)
	s.enrollMore(t, dev, env, args...)
}

// enrollMore enrols beside what there is.
func (s side) enrollMore(t testing.TB, dev string, env []string, args ...string) {
	t.Helper()
	argv := with(s.enroll, append(args, dev)...)
	r := try(t, "", append([]string{"PASSWORD=first"}, env...), argv...)
	if r.code != 0 {
		t.Fatalf("%v: exit code %d\n%s%s", argv, r.code, r.stdout, r.stderr)
	}
}

// opens attaches by the TPM alone, and calls f with the name of the mapping.
func (s side) opens(t testing.TB, dev string, env []string, options string, f func(name string)) {
	t.Helper()
	argv := with(s.attach, "tpm", dev, "-", headless(options))
	if r := try(t, "", env, argv...); r.code != 0 {
		t.Errorf("%v: exit code %d\n%s%s", argv, r.code, r.stdout, r.stderr)
		return
	}
	if f != nil {
		f("tpm")
	}
	run(t, with(s.detach, "tpm")...)
}

// refused attaches by the TPM alone, which must fail, and returns what it says.
func (s side) refused(t testing.TB, dev string, env []string, options string) string {
	t.Helper()
	argv := with(s.attach, "tpm", dev, "-", headless(options))
	r := try(t, "", env, argv...)
	if r.code != 1 || exists("/dev/mapper/tpm") {
		t.Errorf("%v: exit code %d, mapped: %v\n%s", argv, r.code, exists("/dev/mapper/tpm"), r.stderr)
	}
	if exists("/dev/mapper/tpm") {
		run(t, with(s.detach, "tpm")...)
	}
	return r.stderr
}

// headless adds an option to those of a case.
func headless(options string) string {
	return strings.Join(append([]string{"tpm2-device=auto", "headless"}, strings.Fields(options)...), ",")
}

// pcr is the TPM's value of a PCR, in lower case.
func pcr(t testing.TB, bank string, n int) string {
	t.Helper()
	value, err := os.ReadFile(fmt.Sprintf("/sys/class/tpm/tpm0/pcr-%s/%d", bank, n))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ToLower(strings.TrimSpace(string(value)))
}

// extend changes a PCR in the bank that policies use.
func extend(t testing.TB, n int, what string) {
	t.Helper()
	run(t, "tpm2_pcrextend", fmt.Sprintf("%d:sha256=%x", n, sha256.Sum256([]byte(what))))
}

// resetPCRs makes the PCRs zero that can be made so, now and at the test's end.
func resetPCRs(t testing.TB) {
	t.Helper()
	run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR), fmt.Sprint(appPCR))
	t.Cleanup(func() { cleanup(t, "tpm2_pcrreset", fmt.Sprint(debugPCR), fmt.Sprint(appPCR)) })
}

// extended is the value of a PCR of SHA-256 after one more measurement.
func extended(value string, digest []byte) string {
	old, _ := hex.DecodeString(value)
	return fmt.Sprintf("%x", sha256.Sum256(append(old, digest...)))
}

// signer makes a key pair and returns both files.
func signer(t testing.TB) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "private.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))),
		write(t, "public.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

// sign has systemd-measure sign PCR 11 as it is now, or as the phases will
// make it, into a file.
func sign(t testing.TB, file, private, public, phases string) {
	t.Helper()
	text := run(t, systemdMeasure, "sign", "--current", "--phase="+phases, "--bank=sha256", "--private-key="+private, "--public-key="+public)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// inPlace puts a policy file where both look for it by themselves, under the
// name that it has. systemd 257 needs that where there is a PIN: of the options
// that name such files the plugin knows nothing, and has the PIN taken in vain.
func inPlace(t testing.TB, file string) string {
	t.Helper()
	place := filepath.Join("/run/systemd", filepath.Base(file))
	run(t, "cp", file, place)
	t.Cleanup(func() { os.Remove(place) })
	return place
}

// pcrlock has systemd-pcrlock allow the PCRs as they are, beside what it
// predicts, and returns the policy's file. The policy, and the NV index that
// holds it, go at the test's end.
func pcrlock(t testing.TB, pcrs string) string {
	t.Helper()
	// In one folder for the whole test, as the policy is updated in place.
	file := filepath.Join(t.TempDir(), "pcrlock.json")
	relock(t, file, pcrs)
	t.Cleanup(func() { cleanup(t, systemdPCRLock, "remove-policy", "--policy="+file) })
	return file
}

// relock makes a pcrlock policy anew, in the NV index that it has.
func relock(t testing.TB, file, pcrs string) {
	t.Helper()
	run(t, systemdPCRLock, "make-policy", "--policy="+file, "--pcr="+pcrs)
}

// tpmToken is the volume's only TPM2 token.
func tpmToken(t testing.TB, dev string) map[string]any {
	t.Helper()
	var header struct{ Tokens map[string]map[string]any }
	if err := json.Unmarshal([]byte(run(t, "cryptsetup", "luksDump", "--dump-json-metadata", dev)), &header); err != nil {
		t.Fatal(err)
	}
	var found []map[string]any
	for _, token := range header.Tokens {
		if token["type"] == "systemd-tpm2" {
			found = append(found, token)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d TPM2 tokens in %v", len(found), header.Tokens)
	}
	return found[0]
}

// samePolicy is a token without what differs each time it is made.
func samePolicy(token map[string]any) string {
	token = maps.Clone(token)
	delete(token, "lockport") // ours only: what `explain` compares with
	for _, member := range []string{"keyslots", "tpm2-blob", "tpm2_salt"} {
		if _, ok := token[member]; ok {
			token[member] = "…"
		}
	}
	text, _ := json.MarshalIndent(token, "", "  ")
	return string(text)
}

// nothingLoaded checks that the TPM holds no object and no session, at the
// device under the kernel's resource manager, which hides them.
func nothingLoaded(t testing.TB) {
	t.Helper()
	for _, kind := range []string{"transient", "loaded-session", "saved-session"} {
		if left := run(t, "tpm2_getcap", "--tcti=device:/dev/tpm0", "handles-"+kind); left != "" {
			t.Errorf("left in the TPM, %s: %s", kind, left)
		}
	}
}

// tpmFailures is how many wrong PINs the TPM remembers; it locks itself up
// after some. It forgets them at the test's end.
func tpmFailures(t testing.TB) string {
	t.Helper()
	t.Cleanup(func() { cleanup(t, "tpm2_dictionarylockout", "--clear-lockout") })
	m := regexp.MustCompile(`LOCKOUT_COUNTER: (\S+)`).FindStringSubmatch(run(t, "tpm2_getcap", "properties-variable"))
	if m == nil {
		t.Fatal("the TPM has no counter of failures")
	}
	return m[1]
}

// A tpmCase is one kind of policy.
type tpmCase struct {
	enroll  []string // options of the enrolment
	noTPM   bool     // enrolled without the TPM
	env     []string // for the enrolment and for unlocking
	options string   // of the attachment, space separated
	spoil   func()   // makes the policy no longer fit
	mend    func()   // makes it fit again
}

// checkTPM has each side enrol what the other then attaches, and both refuse
// when the policy no longer fits.
func checkTPM(t *testing.T, c tpmCase) {
	dev, key := formatDisk(t)
	attached(t, "tpm")
	run(t, systemdCryptsetup, "attach", "tpm", dev, key)
	makeFS(t, "tpm", "sealed")
	run(t, systemdCryptsetup, "detach", "tpm")
	args := c.enroll
	if !c.noTPM {
		args = with([]string{"--tpm2-device=auto"}, args...)
	}
	var policies []string
	for _, enroller := range sides {
		enroller.enrollTPM(t, dev, c.env, args...)
		policies = append(policies, samePolicy(tpmToken(t, dev)))
		if list := run(t, "systemd-cryptenroll", dev); !regexp.MustCompile(`(?m)^ +\d tpm2$`).MatchString(list) {
			t.Errorf("after %v enrolled, systemd-cryptenroll lists\n%s", enroller, list)
		}
		for _, s := range sides {
			t.Logf("%v enrolled, %v attaches", enroller, s)
			s.opens(t, dev, c.env, c.options, func(name string) { checkFS(t, name, "sealed") })
		}
		if c.spoil == nil {
			continue
		}
		c.spoil()
		for _, s := range sides {
			t.Logf("%v enrolled, %v must not attach", enroller, s)
			s.refused(t, dev, c.env, c.options)
		}
		c.mend()
	}
	if policies[0] != policies[1] {
		t.Errorf("ours enrolled\n%s\nand systemd\n%s", policies[0], policies[1])
	}
	nothingLoaded(t)
	nothingLeft(t)
}

func TestTPM2PCRs(t *testing.T) {
	resetPCRs(t)
	spoil := func() { extend(t, debugPCR, "another state") }
	mend := func() { run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR)) }
	zero := strings.Repeat("0", 64)
	t.Run("current", func(t *testing.T) {
		checkTPM(t, tpmCase{enroll: []string{"--tpm2-pcrs=7+16"}, spoil: spoil, mend: mend})
	})
	t.Run("default", func(t *testing.T) {
		checkTPM(t, tpmCase{})
	})
	t.Run("none", func(t *testing.T) {
		checkTPM(t, tpmCase{enroll: []string{"--tpm2-pcrs="}})
	})
	t.Run("other bank", func(t *testing.T) {
		checkTPM(t, tpmCase{enroll: []string{"--tpm2-pcrs=0:sha1+7:sha1"}})
	})
	t.Run("all of the firmware", func(t *testing.T) {
		checkTPM(t, tpmCase{enroll: []string{"--tpm2-pcrs=platform-code+platform-config+external-code+3+4+5+6+secure-boot-policy"}})
	})
	t.Run("state to come", func(t *testing.T) {
		sum := sha256.Sum256([]byte("later"))
		extend(t, debugPCR, "later")
		defer mend()
		checkTPM(t, tpmCase{enroll: []string{"--tpm2-pcrs=16:sha256=" + extended(zero, sum[:])},
			spoil: mend, mend: func() { extend(t, debugPCR, "later") }})
	})
	t.Run("enrolled elsewhere", func(t *testing.T) {
		public := filepath.Join(t.TempDir(), "srk.pub")
		run(t, "tpm2_readpublic", "-Q", "-c", "0x81000001", "-o", public)
		checkTPM(t, tpmCase{enroll: []string{"--tpm2-device-key=" + public, "--tpm2-pcrs=7:sha256=" + pcr(t, "sha256", 7) + "+16:sha256=" + zero},
			noTPM: true, spoil: spoil, mend: mend})
	})
}

func TestTPM2PIN(t *testing.T) {
	resetPCRs(t)
	checkTPM(t, tpmCase{enroll: []string{"--tpm2-pcrs=7+16", "--tpm2-with-pin=yes"}, env: []string{"NEWPIN=1234", "PIN=1234"},
		spoil: func() { extend(t, debugPCR, "another state") }, mend: func() { run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR)) }})

	dev, _ := formatDisk(t)
	for _, enroller := range sides {
		enroller.enrollTPM(t, dev, []string{"NEWPIN=0000"}, "--tpm2-device=auto", "--tpm2-pcrs=7+16", "--tpm2-with-pin=yes")
		before := tpmFailures(t)
		ours.refused(t, dev, []string{"PIN=1111"}, "")
		if now := tpmFailures(t); now == before {
			t.Errorf("the TPM did not notice a wrong PIN: %s failures", now)
		}
		// A PIN is not tried where the state does not fit anyway: that would
		// cost one of the few attempts.
		before = tpmFailures(t)
		extend(t, debugPCR, "another state")
		ours.refused(t, dev, []string{"PIN=1111"}, "")
		run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR))
		if now := tpmFailures(t); now != before {
			t.Errorf("a PIN was tried in vain: %s failures after %s", now, before)
		}
		ours.opens(t, dev, []string{"PIN=0000"}, "", nil)
	}
	nothingLeft(t)
}

// A person types the PIN: wrong, then right.
func TestTPM2PINPrompt(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "prompt")
	tpmFailures(t)
	theirs.enrollTPM(t, dev, []string{"NEWPIN=2580"}, "--tpm2-device=auto", "--tpm2-pcrs=7", "--tpm2-with-pin=yes")
	c := startConsole(t, "lockport", "attach", "prompt", dev, "-", "tpm2-device=auto,password-cache=no")
	for _, pin := range []string{"1111", "2580"} {
		c.expect("PIN")
		c.send(pin + "\n")
	}
	if code, text := c.wait(); code != 0 || strings.Contains(text, "2580") {
		t.Fatalf("exit code %d\n%s", code, text)
	}
	mustLockport(t, "detach", "prompt")

	cred := write(t, "credential", "2580")
	run(t, "systemd-run", "--wait", "--quiet", "--collect", "-p", "LoadCredential=cryptsetup.tpm2-pin:"+cred,
		"/opt/lockport/bin/lockport", "attach", "prompt", dev, "-", "tpm2-device=auto,headless")
	mustLockport(t, "detach", "prompt")
	nothingLeft(t)
}

// Whoever holds the key signs the next state, and nothing is enrolled again.
func TestTPM2Signed(t *testing.T) {
	private, public := signer(t)
	signature := filepath.Join(t.TempDir(), "tpm2-pcr-signature.json")
	sign(t, signature, private, public, "")
	spoil := func() { extend(t, signedPCR, "enter-initrd") }
	c := tpmCase{enroll: []string{"--tpm2-pcrs=", "--tpm2-public-key=" + public, "--tpm2-signature=" + signature},
		options: "tpm2-signature=" + signature, spoil: spoil, mend: func() { sign(t, signature, private, public, "") }}
	t.Run("alone", func(t *testing.T) { checkTPM(t, c) })
	t.Run("ahead", func(t *testing.T) {
		sign(t, signature, private, public, "enter-initrd")
		c := c
		c.enroll = []string{"--tpm2-pcrs=7", "--tpm2-public-key=" + public}
		dev, _ := formatDisk(t)
		for _, enroller := range sides {
			enroller.enrollTPM(t, dev, nil, append(c.enroll, "--tpm2-device=auto")...)
			for _, s := range sides {
				s.refused(t, dev, nil, c.options)
			}
			spoil()
			for _, s := range sides {
				s.opens(t, dev, nil, c.options, nil)
			}
			sign(t, signature, private, public, "enter-initrd")
		}
	})
	t.Run("with PCRs and PIN", func(t *testing.T) {
		resetPCRs(t)
		sign(t, signature, private, public, "")
		inPlace(t, signature)
		c := c
		c.options = ""
		c.enroll = []string{"--tpm2-pcrs=7+16", "--tpm2-public-key=" + public, "--tpm2-with-pin=yes"}
		c.env = []string{"NEWPIN=1234", "PIN=1234"}
		c.spoil = func() { extend(t, debugPCR, "another state") }
		c.mend = func() { run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR)) }
		checkTPM(t, c)
	})
	t.Run("of another", func(t *testing.T) {
		sign(t, signature, private, public, "")
		dev, _ := formatDisk(t)
		ours.enrollTPM(t, dev, nil, "--tpm2-device=auto", "--tpm2-pcrs=", "--tpm2-public-key="+public)
		private, public := signer(t)
		sign(t, signature, private, public, "")
		for _, s := range sides {
			s.refused(t, dev, nil, c.options)
		}
	})
}

// systemd-pcrlock keeps the policy in the TPM; a new one needs no enrolment.
func TestTPM2PCRLock(t *testing.T) {
	resetPCRs(t)
	// PCRs of one permitted value, and of two: pcrlock foresees both separators.
	const pcrs = "0+3+7+13+16"
	file := pcrlock(t, pcrs)
	spoil := func() { extend(t, debugPCR, "another state") }
	reset := func() { run(t, "tpm2_pcrreset", fmt.Sprint(debugPCR)) }
	options := "tpm2-pcrlock=" + file
	lock := []string{"--tpm2-pcrlock=" + file}
	t.Run("alone", func(t *testing.T) {
		checkTPM(t, tpmCase{enroll: lock, options: options, spoil: spoil, mend: reset})
	})
	t.Run("with PIN", func(t *testing.T) {
		inPlace(t, file)
		checkTPM(t, tpmCase{enroll: with(lock, "--tpm2-with-pin=yes"), env: []string{"NEWPIN=1234", "PIN=1234"}})
	})
	t.Run("with PCRs", func(t *testing.T) {
		checkTPM(t, tpmCase{enroll: with(lock, "--tpm2-pcrs=7+23"), options: options,
			spoil: func() { extend(t, appPCR, "another state") }, mend: func() { run(t, "tpm2_pcrreset", fmt.Sprint(appPCR)) }})
	})
	t.Run("made anew", func(t *testing.T) {
		dev, _ := formatDisk(t)
		for i, enroller := range sides {
			enroller.enrollTPM(t, dev, nil, append(lock, "--tpm2-device=auto")...)
			// One PCR less; and one more, which the old policy did not name.
			relock(t, file, []string{"0+7+16", "0+2+3+7+13+16"}[i])
			for _, s := range sides {
				s.opens(t, dev, nil, options, nil)
			}
		}
		relock(t, file, pcrs)
	})
	t.Run("found", func(t *testing.T) {
		inPlace(t, file)
		dev, _ := formatDisk(t)
		for _, enroller := range sides {
			enroller.enrollTPM(t, dev, nil, "--tpm2-device=auto")
			if token := tpmToken(t, dev); token["tpm2_pcrlock"] != true {
				t.Errorf("%v did not take the machine's policy: %v", enroller, token)
			}
			for _, s := range sides {
				s.opens(t, dev, nil, "", nil)
			}
		}
	})
	// Both kinds at once make two sealed halves.
	t.Run("signed too", func(t *testing.T) {
		private, public := signer(t)
		signature := filepath.Join(t.TempDir(), "tpm2-pcr-signature.json")
		sign(t, signature, private, public, "")
		both := with(lock, "--tpm2-pcrs=7", "--tpm2-public-key="+public, "--tpm2-signature="+signature)
		t.Run("lock broken", func(t *testing.T) {
			checkTPM(t, tpmCase{enroll: both, options: options + " tpm2-signature=" + signature, spoil: spoil, mend: reset})
		})
		t.Run("signature void", func(t *testing.T) {
			inPlace(t, file)
			place := inPlace(t, signature)
			checkTPM(t, tpmCase{enroll: with(both, "--tpm2-with-pin=yes"), env: []string{"NEWPIN=1234", "PIN=1234"},
				spoil: func() { extend(t, signedPCR, "enter-initrd") }, mend: func() { sign(t, place, private, public, "") }})
		})
	})
}

// Enrolling the same once more changes nothing, whoever came first.
func TestTPM2EnrollTwice(t *testing.T) {
	for _, first := range sides {
		dev, _ := formatDisk(t)
		first.enrollTPM(t, dev, nil, "--tpm2-device=auto", "--tpm2-pcrs=7")
		header := run(t, "cryptsetup", "luksDump", "--dump-json-metadata", dev)
		for _, second := range sides {
			second.enrollMore(t, dev, nil, "--tpm2-device=auto", "--tpm2-pcrs=7")
			if now := run(t, "cryptsetup", "luksDump", "--dump-json-metadata", dev); now != header {
				t.Errorf("%v enrolled, and %v once more: the header is\n%s\ninstead of\n%s", first, second, now, header)
			}
		}
	}
}

// The volume key is measured as systemd does it: the same values in the same
// banks, the same record in the log.
func TestTPM2Measure(t *testing.T) {
	resetPCRs(t)
	dev, key := formatDisk(t)
	theirs.enrollTPM(t, dev, nil, "--tpm2-device=auto", "--tpm2-pcrs=7")
	force := []string{"SYSTEMD_FORCE_MEASURE=1"}
	values := func(n int) string {
		var b strings.Builder
		for _, bank := range []string{"sha1", "sha256", "sha384", "sha512"} {
			fmt.Fprintf(&b, "%s %s\n", bank, pcr(t, bank, n))
		}
		return b.String()
	}
	for _, c := range []struct {
		key, options string
		pcr          int
	}{
		{"-", "tpm2-device=auto,tpm2-measure-pcr=23", appPCR},
		{"-", "tpm2-device=auto,tpm2-measure-pcr=23,tpm2-measure-bank=sha256:sha1", appPCR},
		{key, "tpm2-measure-pcr=23", appPCR},
		{"-", "tpm2-device=auto,tpm2-measure-pcr=yes", 15},
	} {
		var records, after []string
		for _, s := range []side{theirs, ours} {
			run(t, "tpm2_pcrreset", fmt.Sprint(appPCR))
			before := pcr(t, "sha256", c.pcr)
			argv := with(s.attach, "na:me", dev, c.key, "headless,"+c.options)
			if r := try(t, "", force, argv...); r.code != 0 {
				t.Fatalf("%v: exit code %d\n%s", argv, r.code, r.stderr)
			}
			run(t, with(s.detach, "na:me")...)
			record := lastRecord(t)
			if now := pcr(t, "sha256", c.pcr); now != extended(before, record.digest(t, "sha256")) {
				t.Errorf("%v: PCR %d is %s, which is not what the log says: %v", argv, c.pcr, now, record)
			}
			record.remove("timestamp")
			text, _ := json.Marshal(record)
			records, after = append(records, string(text)), append(after, values(c.pcr))
		}
		if records[0] != records[1] {
			t.Errorf("%s: we logged\n%s\nand systemd\n%s", c.options, records[1], records[0])
		}
		if c.pcr == appPCR && after[0] != after[1] {
			t.Errorf("%s: after ours\n%s\nafter systemd's\n%s", c.options, after[1], after[0])
		}
	}
	// Without a measured kernel image there is nothing to add to.
	run(t, "tpm2_pcrreset", fmt.Sprint(appPCR))
	before := values(appPCR)
	for _, s := range sides {
		s.opens(t, dev, nil, "tpm2-measure-pcr=23", nil)
	}
	if now := values(appPCR); now != before {
		t.Errorf("measured without a measured boot:\n%s", now)
	}
	nothingLoaded(t)
	nothingLeft(t)
}

// measureRecord is one record of systemd's log of measurements.
type measureRecord map[string]any

const measureLog = "/run/log/systemd/tpm2-measure.log"

// lastRecord reads the log's last record; each follows a separator.
func lastRecord(t testing.TB) measureRecord {
	t.Helper()
	text, err := os.ReadFile(measureLog)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(measureLog); err != nil || info.Mode() != 0o600 {
		t.Errorf("%s: %v, %v", measureLog, info.Mode(), err)
	}
	all := strings.Split(string(text), "\x1e")
	var r measureRecord
	if err := json.Unmarshal([]byte(all[len(all)-1]), &r); err != nil || all[0] != "" || !strings.HasSuffix(string(text), "\n") {
		t.Fatalf("%v in %q", err, text)
	}
	return r
}

func (r measureRecord) digest(t testing.TB, bank string) []byte {
	t.Helper()
	list, _ := r["digests"].([]any)
	for _, d := range list {
		if d, _ := d.(map[string]any); d["hashAlg"] == bank {
			digest, err := hex.DecodeString(fmt.Sprint(d["digest"]))
			if err != nil {
				t.Fatal(err)
			}
			return digest
		}
	}
	t.Fatalf("no %s in %v", bank, r)
	return nil
}

// remove removes what differs each time from the record's content.
func (r measureRecord) remove(member string) {
	content, _ := r["content"].(map[string]any)
	delete(content, member)
}

// Without the kernel's resource manager, what is left behind stays in the TPM:
// there is room for three objects.
func TestTPM2LeavesNothing(t *testing.T) {
	resetPCRs(t)
	dev, _ := formatDisk(t)
	attached(t, "raw")
	tpmFailures(t)
	direct := []string{"SYSTEMD_TPM2_DEVICE=/dev/tpm0"}
	pin := append(direct, "PASSWORD=first", "NEWPIN=1234", "PIN=1234")
	attach := func(code int, env ...string) {
		t.Helper()
		argv := []string{"lockport", "attach", "raw", dev, "-", "tpm2-device=/dev/tpm0,headless"}
		if r := try(t, "", append(direct, env...), argv...); r.code != code {
			t.Errorf("%v: exit code %d\n%s", argv, r.code, r.stderr)
		}
		nothingLoaded(t)
		if code == 0 {
			mustLockport(t, "detach", "raw")
		}
	}
	enroll := func(args ...string) {
		t.Helper()
		ours.enrollTPM(t, dev, pin, append(args, "--tpm2-device=/dev/tpm0")...)
		nothingLoaded(t)
	}
	persistent := run(t, "tpm2_getcap", "handles-persistent")
	enroll("--tpm2-pcrs=7+16")
	attach(0)
	extend(t, debugPCR, "another state")
	attach(1)
	enroll("--tpm2-pcrs=7", "--tpm2-with-pin=yes")
	attach(0, "PIN=1234")
	attach(1, "PIN=1111")
	private, public := signer(t)
	signature := filepath.Join(t.TempDir(), "tpm2-pcr-signature.json")
	sign(t, signature, private, public, "")
	inPlace(t, signature)
	enroll("--tpm2-pcrs=7", "--tpm2-public-key="+public, "--tpm2-signature="+signature)
	attach(0)
	if now := run(t, "tpm2_getcap", "handles-persistent"); now != persistent {
		t.Errorf("persistent handles %s instead of %s", now, persistent)
	}
	nothingLeft(t)
}

// tpmCommands counts what a command writes to the TPM; each write is a command.
func tpmCommands(t testing.TB, env []string, argv ...string) int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "calls")
	if r := try(t, "", env, append([]string{"strace", "-f", "-y", "-e", "trace=write", "-o", file}, argv...)...); r.code != 0 {
		t.Fatalf("%v: exit code %d\n%s", argv, r.code, r.stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := len(regexp.MustCompile(`(?m)^\d+ +write\(\d+</dev/tpm(rm)?0>, `).FindAll(text, -1))
	if n == 0 {
		t.Fatalf("%v wrote nothing to the TPM", argv)
	}
	return n
}

// A TPM is slow, so its commands are counted.
func TestTPM2Commands(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "count")
	env := []string{"PASSWORD=first", "NEWPIN=1234", "PIN=1234"}
	for _, c := range []struct {
		enroll []string
		atMost int
	}{
		{[]string{"--tpm2-pcrs=7"}, 7},
		{[]string{"--tpm2-pcrs=7", "--tpm2-with-pin=yes"}, 8},
	} {
		theirs.enrollTPM(t, dev, env, append(c.enroll, "--tpm2-device=auto")...)
		n := tpmCommands(t, env, with(ours.attach, "count", dev, "-", headless(""))...)
		mustLockport(t, "detach", "count")
		if n > c.atMost {
			t.Errorf("%v: %d TPM commands, more than %d", c.enroll, n, c.atMost)
		}
	}
	nothingLeft(t)
}
