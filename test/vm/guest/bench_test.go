//go:build vm

package guest

import (
	"testing"
	"time"

	"github.com/lockport/lockport/test/bench"
)

// rounds is how often each side runs; the medians count.
const rounds = 7

// timed is a step to measure: a command that must succeed.
func timed(t testing.TB, env []string, argv ...string) func() time.Duration {
	return func() time.Duration {
		return bench.Timed(func() {
			if r := try(t, "", env, argv...); r.code != 0 {
				t.Fatalf("%v: exit code %d\n%s", argv, r.code, r.stderr)
			}
		})
	}
}

// undone is a step that the same side undoes before the other's turn.
func undone(f, undo func() time.Duration) func() time.Duration {
	return func() time.Duration {
		d := f()
		undo()
		return d
	}
}

// TestBenchTable is the machine part of `make bench`: ours beside systemd's in
// one boot, in turns.
func TestBenchTable(t *testing.T) {
	dev, key := formatDisk(t)
	attached(t, "bench")
	before := func(do, f func() time.Duration) func() time.Duration {
		return func() time.Duration {
			do()
			return f()
		}
	}
	theirAttach := timed(t, nil, systemdCryptsetup, "attach", "bench", dev, key)
	theirDetach := timed(t, nil, systemdCryptsetup, "detach", "bench")
	ourAttach := timed(t, nil, "lockport", "attach", "bench", dev, key)
	ourDetach := timed(t, nil, "lockport", "detach", "bench")
	rows := []bench.Row{
		bench.Compare("attach, key file", "≤ 0.5", rounds, undone(theirAttach, theirDetach), undone(ourAttach, ourDetach)),
		bench.Compare("detach", "≤ 0.5", rounds, before(theirAttach, theirDetach), before(ourAttach, ourDetach)),
	}
	env := []string{"PASSWORD=first"}
	wipe := func(program ...string) func() time.Duration {
		return timed(t, nil, append(program, "--wipe-slot=recovery", dev)...)
	}
	rows = append(rows,
		bench.Compare("enrol a recovery key", "≤ 0.5", rounds,
			undone(timed(t, env, "systemd-cryptenroll", "--recovery-key", dev), wipe("systemd-cryptenroll")),
			undone(timed(t, env, "lockport", "enroll", "--recovery-key", dev), wipe("lockport", "enroll"))),
		bench.Compare("list keyslots", "", rounds,
			timed(t, nil, "systemd-cryptenroll", dev), timed(t, nil, "lockport", "slots", dev)),
		bench.Compare("--help", "", rounds,
			timed(t, nil, "systemd-cryptenroll", "--help"), timed(t, nil, "lockport", "enroll", "--help")))
	t.Log("\n" + bench.Table(rows))
}

// TestBenchTPM2 is the same for the TPM: the time, and the commands to the TPM,
// which on a real one are most of it.
func TestBenchTPM2(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "bench")
	env := []string{"PASSWORD=first", "NEWPIN=1234", "PIN=1234"}
	private, public := signer(t)
	signature := write(t, "tpm2-pcr-signature.json", "")
	sign(t, signature, private, public, "")
	inPlace(t, signature)
	lock := pcrlock(t, "0+7+16")
	inPlace(t, lock)
	var rows []bench.Row
	for _, c := range []struct {
		what        string
		args        []string
		aim, attach string // the aims: a ratio, and commands
	}{
		{"PCR 7", []string{"--tpm2-pcrs=7", "--tpm2-pcrlock="}, "≤ 0.5", "≤ 7"},
		{"PCR 7, PIN", []string{"--tpm2-pcrs=7", "--tpm2-pcrlock=", "--tpm2-with-pin=yes"}, "≤ 0.5", "≤ 8"},
		{"signed PCR 11", []string{"--tpm2-pcrs=", "--tpm2-pcrlock=", "--tpm2-public-key=" + public, "--tpm2-signature=" + signature}, "", ""},
		{"pcrlock of 3 PCRs", []string{"--tpm2-pcrlock=" + lock}, "", ""},
	} {
		enroll := func(s side) []string { return with(s.enroll, append(c.args, "--tpm2-device=auto", dev)...) }
		attach := func(s side) []string { return with(s.attach, "bench", dev, "-", headless("")) }
		detach := func(s side) []string { return with(s.detach, "bench") }
		wipe := func(s side) []string { return with(s.enroll, "--wipe-slot=tpm2", dev) }
		compare := func(work string, do, undo func(side) []string) {
			rows = append(rows, bench.Compare(work+", TPM2 + "+c.what, c.aim, rounds,
				undone(timed(t, env, do(theirs)...), timed(t, nil, undo(theirs)...)),
				undone(timed(t, env, do(ours)...), timed(t, nil, undo(ours)...))))
		}
		count := func(aim string, do, undo func(side) []string) {
			row := bench.Row{Work: "  commands to the TPM", Aim: aim}
			for s, n := range map[*side]*float64{&theirs: &row.Theirs, &ours: &row.Ours} {
				*n = float64(tpmCommands(t, env, do(*s)...))
				run(t, undo(*s)...)
			}
			rows = append(rows, row)
		}
		compare("enrol", enroll, wipe)
		count("", enroll, wipe)
		theirs.enrollTPM(t, dev, env, append(c.args, "--tpm2-device=auto")...)
		compare("attach", attach, detach)
		count(c.attach, attach, detach)
	}
	t.Log("\n" + bench.Table(rows))
}

// TestBenchFIDO2 is the same for a security key of software that asks for nobody.
func TestBenchFIDO2(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "bench")
	plugKey(t)
	theirs.enrollMore(t, dev, nil, "--fido2-device=auto", "--fido2-with-user-presence=no")
	attach := func(s side) []string { return with(s.attach, "bench", dev, "-", fidoOptions) }
	detach := func(s side) []string { return with(s.detach, "bench") }
	row := bench.Compare("attach, FIDO2 without touch", "≤ 0.5", rounds,
		undone(timed(t, nil, attach(theirs)...), timed(t, nil, detach(theirs)...)),
		undone(timed(t, nil, attach(ours)...), timed(t, nil, detach(ours)...)))
	t.Log("\n" + bench.Table([]bench.Row{row}))
}

// TestBenchPKCS11 is the same for a security token in software.
func TestBenchPKCS11(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "bench")
	var rows []bench.Row
	for _, kind := range []string{"rsa:2048", "EC:prime256v1"} {
		k := newTokens(t)
		k.add(t, "card", kind)
		env := append([]string{"PASSWORD=first"}, k.env...)
		enroll := func(s side) func() time.Duration {
			return timed(t, env, with(s.enroll, "--pkcs11-token-uri=auto", dev)...)
		}
		wipe := func(s side) func() time.Duration { return timed(t, nil, with(s.enroll, "--wipe-slot=pkcs11", dev)...) }
		attach := func(s side) func() time.Duration {
			return timed(t, k.env, with(s.attach, "bench", dev, "-", "headless,pkcs11-uri=auto")...)
		}
		detach := func(s side) func() time.Duration { return timed(t, nil, with(s.detach, "bench")...) }
		rows = append(rows, bench.Compare("enrol, PKCS#11 "+kind, "≤ 0.5", rounds, undone(enroll(theirs), wipe(theirs)), undone(enroll(ours), wipe(ours))))
		theirs.enrollMore(t, dev, k.env, "--pkcs11-token-uri=auto")
		rows = append(rows, bench.Compare("attach, PKCS#11 "+kind, "≤ 0.5", rounds, undone(attach(theirs), detach(theirs)), undone(attach(ours), detach(ours))))
		run(t, "systemd-cryptenroll", "--wipe-slot=pkcs11", dev)
	}
	t.Log("\n" + bench.Table(rows))
}
