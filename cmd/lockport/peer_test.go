package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// These tests make the same calls with our program under an original's name and
// with the original itself, on two copies of one volume. The original here is
// some version from 248 on; where it is older than 257 and does something else,
// the case says so.

// originalProgram finds one, or skips; where CI is set it must be there.
func originalProgram(t *testing.T, candidates ...string) string {
	t.Helper()
	for _, path := range candidates {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("none of %s is here", candidates)
	}
	t.Skipf("none of %s is here", candidates)
	return ""
}

type call struct {
	env  string // NAME=VALUE, separated by blanks
	args string // likewise; V is the volume
}

type outcome struct {
	Code   int
	Stdout string
	Header any
	stderr string
	raw    string // standard output as it was
}

// make calls one program in a folder of its own, without a terminal.
func (c call) make(t *testing.T, program, volume string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := strings.Fields(strings.ReplaceAll(c.args, "V", volume))
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = filepath.Dir(volume)
	cmd.Env = append(os.Environ(), "LANG=C", "SYSTEMD_LOG_LEVEL=info", "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, strings.Fields(c.env)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s %q: %v, %v: %s", program, args, err, ctx.Err(), &stderr)
	}
	return outcome{Code: cmd.ProcessState.ExitCode(), Stdout: withoutChance(stdout.String()), Header: structure(t, volume), stderr: stderr.String(), raw: stdout.String()}
}

var recoveryKey = regexp.MustCompile(`\b([cbdefghijklnrtuv]{8}-){7}[cbdefghijklnrtuv]{8}\b`)

// withoutChance takes away what is random.
func withoutChance(text string) string { return recoveryKey.ReplaceAllString(text, "RECOVERY-KEY") }

// structure returns the metadata of a volume without what is random, measured,
// or a note of ours; nil for what is no volume.
func structure(t *testing.T, path string) any {
	t.Helper()
	f, err := luks2.OpenFile(path, true)
	if err != nil {
		return nil
	}
	defer f.Close()
	h, err := luks2.Open(t.Context(), f)
	if err != nil {
		return nil
	}
	var metadata any
	if err := json.Unmarshal(h.JSON(), &metadata); err != nil {
		t.Fatal(err)
	}
	return calm(metadata)
}

func calm(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "lockport")
		for _, name := range []string{"salt", "digest"} {
			if v[name] != nil {
				v[name] = "random"
			}
		}
		if v["memory"] != nil {
			v["memory"], v["time"], v["cpus"] = "measured", "measured", "measured"
		}
		for _, member := range v {
			calm(member)
		}
	case []any:
		for _, member := range v {
			calm(member)
		}
	}
	return v
}

// variants are the volumes that the calls are made on.
func variants(t *testing.T) map[string][]byte {
	t.Helper()
	plain := volumeImage(t, func(*luks2.Header, *secret.Bytes) error { return nil })
	return map[string][]byte{
		"plain": plain,
		"recovery": volumeImage(t, func(h *luks2.Header, key *secret.Bytes) error {
			return addSlot(t, h, key, "r", "systemd-recovery")
		}),
		"empty": volumeImage(t, func(h *luks2.Header, key *secret.Bytes) error {
			return addSlot(t, h, key, "", "")
		}),
		// A recovery key, a foreign token over two slots, and a slot with two tokens.
		"odd": volumeImage(t, func(h *luks2.Header, key *secret.Bytes) error {
			err := errors.Join(addSlot(t, h, key, "r", "systemd-recovery"), addSlot(t, h, key, "a", "clevis"), addSlot(t, h, key, "b", "systemd-tpm2"))
			if err != nil {
				return err
			}
			_, err = h.AddToken(json.RawMessage(`{"type":"systemd-fido2","keyslots":["2","3"]}`))
			return errors.Join(err, h.Commit(t.Context()))
		}),
		"homed": volumeImage(t, func(h *luks2.Header, _ *secret.Bytes) error {
			_, err := h.AddToken(json.RawMessage(`{"type":"systemd-homed","keyslots":["0"]}`))
			return errors.Join(err, h.Commit(t.Context()))
		}),
		"slotless": volumeImage(t, func(h *luks2.Header, _ *secret.Bytes) error {
			return errors.Join(h.RemoveSlot(0), h.Commit(t.Context()))
		}),
		"text": []byte("no volume\n"),
	}
}

func volumeImage(t *testing.T, change func(h *luks2.Header, key *secret.Bytes) error) []byte {
	t.Helper()
	bytes := make([]byte, 4<<20)
	pass := secret.Copy([]byte("first"))
	defer pass.Wipe()
	h, key, err := luks2.Format(t.Context(), luks2.NewMemory(bytes), pass, luks2.FormatOptions{
		DataOffset: 3 << 20, KeySize: 64, Fast: true, KDF: luks2.KDF{Type: luks2.Argon2id, Time: 4, Memory: 32, CPUs: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	if err := change(h, key); err != nil {
		t.Fatal(err)
	}
	return bytes
}

func addSlot(t *testing.T, h *luks2.Header, key *secret.Bytes, text, token string) error {
	t.Helper()
	pass := secret.Copy([]byte(text))
	defer pass.Wipe()
	slot, err := h.AddSlot(t.Context(), key, pass, luks2.SlotOptions{ID: luks2.AnySlot, KDF: luks2.Minimal()})
	if err == nil && token != "" {
		_, err = h.AddToken(json.RawMessage(fmt.Sprintf(`{"type":%q,"keyslots":["%d"]}`, token, slot)))
	}
	return errors.Join(err, h.Commit(t.Context()))
}

func TestCryptenrollPeer(t *testing.T) {
	t.Parallel()
	theirs := originalProgram(t, "/usr/bin/systemd-cryptenroll")
	ours, err := exec.LookPath("systemd-cryptenroll")
	if err != nil || ours == theirs {
		t.Fatal("the name is not ours in this test", err)
	}
	volumes := variants(t)
	const password = "PASSWORD=first"
	for _, c := range []struct {
		on    string
		calls []call
		// Our exit code where it differs from an older original's, and why.
		newer string
		code  int
		slow  bool // both measure what two seconds with 1 GiB are
	}{
		{on: "plain", calls: []call{{"", "V"}}},
		{on: "odd", calls: []call{{"", "V"}}},
		{on: "slotless", calls: []call{{"", "V"}}},
		{on: "homed", calls: []call{{"", "V"}}},
		{on: "text", calls: []call{{"", "V"}}},
		{on: "plain", calls: []call{{"", "/nonexistent"}}},
		{on: "plain", calls: []call{{"", "/dev/null"}}},
		{on: "plain", calls: []call{{"", "/"}}},
		{on: "plain", calls: []call{{"", "V V"}}},
		{on: "plain", calls: []call{{"", "--wipe-slot= V"}}},
		{on: "plain", calls: []call{{"", "--wipe-slot=all"}}},

		{on: "plain", slow: true, calls: []call{{password + " NEWPASSWORD=", "--password --wipe-slot=0,9 V"}}},
		{on: "plain", slow: true, calls: []call{{password + " NEWPASSWORD=second", "--password V"}, {"PASSWORD=second", "--recovery-key V"}, {"", "V"}}},
		{on: "plain", calls: []call{{password, "--recovery-key V"}, {"", "V"}, {password, "--recovery-key V"}, {"", "--wipe-slot=1 V"},
			{password, "--recovery-key V"}, {"", "V"}}},
		{on: "plain", calls: []call{{password, "--recovery-key --wipe-slot=all V"}, {"", "V"}}},
		{on: "recovery", calls: []call{{password, "--recovery-key --wipe-slot=recovery,9 V"}, {"", "V"}}},
		{on: "plain", calls: []call{{"PASSWORD=wrong", "--recovery-key V"}}},
		{on: "plain", calls: []call{{"PASSWORD=", "--recovery-key V"}}},
		{on: "empty", calls: []call{{"PASSWORD=", "--recovery-key V"}}},
		{on: "homed", calls: []call{{password, "--recovery-key V"}, {"", "--wipe-slot=0 V"}}},

		{on: "recovery", calls: []call{{"", "--wipe-slot=0 V"}, {"", "--wipe-slot=1 V"}, {"", "V"}}},
		{on: "recovery", calls: []call{{"", "--wipe-slot=recovery V"}, {"", "--wipe-slot=recovery V"}}},
		{on: "recovery", calls: []call{{"", "--wipe-slot=all V"}, {"", "--wipe-slot=0,1 V"}, {"", "--wipe-slot=password,recovery V"}}},
		{on: "recovery", calls: []call{{"", "--wipe-slot=0,7 V"}}},
		{on: "recovery", calls: []call{{"", "--wipe-slot=31 V"}, {"", "--wipe-slot=32 V"}, {"", "--wipe-slot=some V"}, {"", "--wipe-slot=-1 V"}}},
		{on: "empty", calls: []call{{"", "--wipe-slot=empty V"}, {"", "V"}}},
		{on: "empty", calls: []call{{"", "--wipe-slot=all,empty V"}}},
		{on: "odd", calls: []call{{"", "--wipe-slot=password V"}}},
		{on: "odd", calls: []call{{"", "--wipe-slot=fido2 V"}}},
		{on: "odd", calls: []call{{"", "--wipe-slot=tpm2 V"}}},
		{on: "odd", calls: []call{{"", "--wipe-slot=pkcs11 V"}}},
		{on: "odd", calls: []call{{"", "--wipe-slot=2 V"}, {"", "V"}}},
		{on: "odd", calls: []call{{password, "--recovery-key --wipe-slot=recovery --wipe-slot=tpm2 V"}, {"", "V"}}},
		{on: "slotless", calls: []call{{"", "--wipe-slot=all V"}, {"", "--wipe-slot=password V"}}},

		{on: "plain", calls: []call{{"", "--frobnicate V"}, {"", "-x V"}, {"", "--wipe-slot"}}},
		{on: "plain", calls: []call{{password, "--password --recovery-key V"}, {password, "--recovery-key --recovery-key V"}, {password, "--password --password V"}}},
		{on: "plain", calls: []call{{password, "--recov V"}, {"", "--wipe recovery V"}, {"", "--tpm2 V"}, {"", "V --wipe=1"}}},
		{on: "plain", calls: []call{{password, "V --recovery-key"}, {"", "-- V"}}},
		{on: "plain", calls: []call{{"", "--tpm2-pcrs=7 V"}, {"", "--tpm2-pcrs=0+7+11 V"}, {"", "--tpm2-pcrs=x V"}, {"", "--tpm2-pcrs=24 V"}}},
		{on: "plain", calls: []call{{"", "--tpm2-with-pin=no V"}, {"", "--tpm2-with-pin=perhaps V"}, {"", "--fido2-with-client-pin=ON V"},
			{"", "--fido2-credential-algorithm=eddsa V"}, {"", "--fido2-credential-algorithm=x V"}}},
		{on: "plain", calls: []call{{"", "--unlock-key-file=/nonexistent --recovery-key V"}}},
		{on: "plain", newer: "since 257 there is an option that was unknown before", calls: []call{{"", "--list-devices"}}},
	} {
		name := c.on
		for _, one := range c.calls {
			name += " " + one.env + " " + one.args + ","
		}
		t.Run(strings.Trim(name, ","), func(t *testing.T) {
			t.Parallel()
			if c.slow && os.Getenv("CI") == "" {
				t.Skip("takes long; tried where CI is set")
			}
			compare(t, volumes[c.on], c.calls, theirs, ours, c.newer, c.code)
		})
	}
}

// compare makes the calls with both programs and wants the same exit code, the
// same on standard output and the same header after each.
func compare(t *testing.T, image []byte, calls []call, theirs, ours, newer string, code int) {
	t.Helper()
	var paths [2]string
	for i := range paths {
		paths[i] = filepath.Join(t.TempDir(), "volume")
		if err := os.WriteFile(paths[i], image, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range calls {
		want, got := c.make(t, theirs, paths[0]), c.make(t, ours, paths[1])
		if newer != "" {
			if got.Code != code {
				t.Errorf("%s %s: %s, but our exit code is %d", c.env, c.args, newer, got.Code)
			}
			continue
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(outcome{})); diff != "" {
			t.Errorf("%s %s: -theirs +ours\n%s\ntheir words: %sours: %s", c.env, c.args, diff, want.stderr, got.stderr)
		}
	}
}

func TestCryptsetupPeer(t *testing.T) {
	t.Parallel()
	theirs := originalProgram(t, "/usr/bin/systemd-cryptsetup", "/lib/systemd/systemd-cryptsetup")
	ours, err := exec.LookPath("systemd-cryptsetup")
	if err != nil || ours == theirs {
		t.Fatal("the name is not ours in this test", err)
	}
	volume := variants(t)["plain"]
	for _, args := range []string{
		"attach", "attach data", "attach a/b V", "attach . V", "detach", "detach a/b", "detach ..", "frobnicate data", "--help",
		"attach data V - header=relative", "attach data V - header=/a,header=/b", "attach data V - offset=x", "attach data V - skip=x",
		"attach data V - pkcs11-uri=x", "attach data V - fido2-cid=", "attach data V - tpm2-pcrs=99", "attach data V - tpm2-signature=relative",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			newer := ""
			if args == "--help" {
				newer = "the text of the help is our own"
			}
			compare(t, volume, []call{{"", args}}, theirs, ours, newer, 0)
		})
	}
	// Version 252 prints its help when it is called without a verb; since 255
	// that is an error.
	if got := (call{}).make(t, ours, filepath.Join(t.TempDir(), "volume")); got.Code != 1 {
		t.Errorf("without a verb our exit code is %d", got.Code)
	}
}

// TestRecoveryKeyPeer has each program open the volume with the key that the
// other one printed, and list what the other one made.
func TestRecoveryKeyPeer(t *testing.T) {
	t.Parallel()
	theirs := originalProgram(t, "/usr/bin/systemd-cryptenroll")
	ours, err := exec.LookPath("systemd-cryptenroll")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(path, variants(t)["plain"], 0o600); err != nil {
		t.Fatal(err)
	}
	pass := "first"
	for slot, program := range []string{ours, theirs, ours, theirs} {
		got := call{"PASSWORD=" + pass, "--recovery-key V"}.make(t, program, path)
		if pass = strings.TrimSpace(got.raw); got.Code != 0 || !recoveryKey.MatchString(pass) {
			t.Fatalf("%s, slot %d: %+v", program, slot+1, got)
		}
	}
	want := "SLOT TYPE\n   0 password\n   1 recovery\n   2 recovery\n   3 recovery\n   4 recovery\n"
	for _, program := range []string{ours, theirs} {
		if got := (call{"", "V"}).make(t, program, path); got.Stdout != want {
			t.Errorf("%s lists %q", program, got.Stdout)
		}
	}
}

// TestVersionAndHelp of the programs under their names end well and print
// something, as scripts that look for an option expect.
func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"systemd-cryptenroll", "systemd-cryptsetup", "lockport"} {
		for _, option := range []string{"--help", "-h", "--version"} {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			got := call{args: option}.make(t, path, filepath.Join(t.TempDir(), "volume"))
			if got.Code != 0 || got.Stdout == "" || got.stderr != "" {
				t.Errorf("%s %s: %+v", name, option, got)
			}
		}
	}
}
