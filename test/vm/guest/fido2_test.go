//go:build vm

package guest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// softkey is a security key that the kernel has.
type softkey struct {
	t     testing.TB
	state string
	flags []string
	cmd   *exec.Cmd
	path  string
}

// plugKey plugs a new one in, until the test ends.
func plugKey(t testing.TB, flags ...string) *softkey {
	t.Helper()
	k := &softkey{t: t, state: filepath.Join(t.TempDir(), "key.json"), flags: flags}
	k.plug()
	return k
}

// plug plugs it in.
func (k *softkey) plug() {
	k.t.Helper()
	k.cmd = exec.Command("softkey", append([]string{"-state", k.state}, k.flags...)...)
	k.cmd.Stderr = os.Stderr
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(k.unplug)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		k.t.Fatalf("softkey says no path: %v", err)
	}
	k.path = strings.TrimSpace(line)
	run(k.t, "udevadm", "settle")
}

// unplug pulls it out, if it is in.
func (k *softkey) unplug() {
	if k.cmd == nil {
		return
	}
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	_ = k.cmd.Wait()
	k.cmd = nil
	for end := time.Now().Add(bound); exists(k.path); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			k.t.Errorf("%s stays", k.path)
			return
		}
	}
}

const fidoPIN = "2468"

// fidoEnv has the PIN wherever either program looks for it.
func fidoEnv(t testing.TB, pin string) []string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cryptenroll.fido2-pin", "cryptsetup.fido2-pin"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(pin), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"PIN=" + pin, "CREDENTIALS_DIRECTORY=" + dir}
}

// fidoOptions has nobody be asked for a passphrase for long.
const fidoOptions = "fido2-device=auto,token-timeout=20,tries=1,timeout=5"

// fidoOpens attaches with a security key.
func (s side) fidoOpens(t testing.TB, dev string, env []string, key, options string) {
	t.Helper()
	argv := with(s.attach, "fido", dev, key, options)
	if r := try(t, "", env, argv...); r.code != 0 {
		t.Errorf("%v: exit code %d\n%s%s", argv, r.code, r.stdout, r.stderr)
		return
	}
	run(t, with(s.detach, "fido")...)
}

// TestFIDO2BothWays has each program open what the other enrolled, over the kinds of
// keys and of what is asked of them.
func TestFIDO2BothWays(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "fido")
	for _, c := range []struct {
		name string
		key  []string
		args []string
		env  bool
	}{
		{"touch", nil, nil, false},
		{"PIN", []string{"-pin", fidoPIN}, nil, true},
		{"PIN, CTAP 2.0", []string{"-pin", fidoPIN, "-ctap20"}, nil, true},
		{"PIN, protocol 1", []string{"-pin", fidoPIN, "-protocols", "1"}, nil, true},
		{"no touch", []string{"-touch", "never"}, []string{"--fido2-with-user-presence=no"}, false},
		{"verified", []string{"-uv", "ok"}, []string{"--fido2-with-user-verification=yes"}, false},
	} {
		for _, by := range sides {
			t.Run(c.name+" by "+by.String(), func(t *testing.T) {
				flags := c.key
				if c.name == "no touch" {
					flags = nil // the credential itself takes one
				}
				k := plugKey(t, flags...)
				var env []string
				if c.env {
					env = fidoEnv(t, fidoPIN)
				}
				by.enrollMore(t, dev, env, append(c.args, "--fido2-device=auto", "--wipe-slot=fido2")...)
				if c.name == "no touch" {
					k.unplug()
					run(t, "sed", "-i", `s/"master"/"touch": "never", &/`, k.state)
					k.plug()
				}
				for _, s := range sides {
					s.fidoOpens(t, dev, env, "-", fidoOptions)
				}
			})
		}
	}
}

// TestFIDO2Credential keeps the credential in crypttab and the salt in a file.
func TestFIDO2Credential(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "fido")
	plugKey(t)
	salt := write(t, "salt", "01234567890123456789012345678901")
	for _, by := range sides {
		argv := with(by.enroll, "--fido2-device=auto", "--fido2-salt-file="+salt, "--fido2-parameters-in-header=no", dev)
		r := try(t, "", []string{"PASSWORD=first"}, argv...)
		if r.code != 0 {
			t.Fatalf("%v: exit code %d\n%s", argv, r.code, r.stderr)
		}
		cid := strings.TrimSpace(r.stdout)
		for _, s := range sides {
			s.fidoOpens(t, dev, nil, salt, "fido2-cid="+cid+",fido2-pin=no,fido2-up=yes,fido2-uv=no,"+fidoOptions)
		}
	}
}

// TestFIDO2TwoKeys opens with whichever of two keys is plugged in, and with both.
func TestFIDO2TwoKeys(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "fido")
	a := plugKey(t, "-name", "first key")
	theirs.enrollMore(t, dev, nil, "--fido2-device=auto")
	b := plugKey(t, "-name", "second key")
	ours.enrollMore(t, dev, nil, "--fido2-device="+b.path)
	for _, s := range sides {
		s.fidoOpens(t, dev, nil, "-", fidoOptions)
	}
	a.unplug()
	for _, s := range sides {
		s.fidoOpens(t, dev, nil, "-", fidoOptions)
	}
	out := run(t, "lockport", "enroll", "--fido2-device=list")
	theirList := run(t, "systemd-cryptenroll", "--fido2-device=list")
	t.Logf("ours:\n%s\ntheirs:\n%s", out, theirList)
	for _, list := range []string{out, theirList} {
		if !strings.Contains(list, b.path) || strings.Count(list, "/dev/hidraw") != 1 {
			t.Errorf("list:\n%s", list)
		}
	}
	b.unplug()
	a.plug()
	ours.fidoOpens(t, dev, nil, "-", fidoOptions)
}

// TestFIDO2Waits plugs the key in while we wait for it, and another one before.
func TestFIDO2Waits(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "fido")
	k := plugKey(t)
	theirs.enrollMore(t, dev, nil, "--fido2-device=auto")
	k.unplug()
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("lockport", "attach", "fido", dev, "-", "fido2-device=auto,token-timeout=100,tries=1,timeout=5")
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	says := func(what string) {
		t.Helper()
		waitFor(t, func() bool {
			text, _ := os.ReadFile(log)
			return strings.Contains(string(text), what)
		}, "saying: "+what)
	}
	says("plug one in")
	other := plugKey(t, "-name", "other key")
	says("none of the keyslots")
	k.plug()
	if err := cmd.Wait(); err != nil {
		text, _ := os.ReadFile(log)
		t.Fatalf("%v\n%s", err, text)
	}
	other.unplug()
	run(t, "lockport", "detach", "fido")
}

// TestFIDO2Tools has libfido2's own tools look at the software key.
func TestFIDO2Tools(t *testing.T) {
	k := plugKey(t)
	if out := run(t, "fido2-token", "-L"); !strings.Contains(out, k.path) {
		t.Errorf("not listed:\n%s", out)
	}
	info := run(t, "fido2-token", "-I", k.path)
	for _, want := range []string{"hmac-secret", "FIDO_2_1", "pin protocols: 2, 1"} {
		if !strings.Contains(info, want) {
			t.Errorf("no %q in:\n%s", want, info)
		}
	}
	// A credential, an assertion by it, and whether that verifies.
	const hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	cred := runInput(t, hash+"\nexample.org\nAda\nQWRh\n", "fido2-cred", "-M", "-h", k.path)
	id := runInput(t, cred+"\n", "fido2-cred", "-V", "-h")
	lines := strings.SplitN(id, "\n", 2)
	public := write(t, "public.pem", lines[1]+"\n")
	salt := "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
	assertion := runInput(t, hash+"\nexample.org\n"+lines[0]+"\n"+salt+"\n", "fido2-assert", "-G", "-h", k.path)
	runInput(t, assertion+"\n", "fido2-assert", "-V", "-h", public)
}
