//go:build vm

package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// tokens is a folder of SoftHSM with security tokens, for both programs.
type tokens struct{ env []string }

func newTokens(t testing.TB) tokens {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := write(t, "softhsm2.conf", "directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	return tokens{[]string{"SOFTHSM2_CONF=" + config, "PIN=1234"}}
}

func (k tokens) must(t testing.TB, argv ...string) string {
	t.Helper()
	r := try(t, "", k.env, argv...)
	if r.code != 0 {
		t.Fatalf("%v: exit code %d\n%s%s", argv, r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// add makes a token with one key pair and returns its URI.
func (k tokens) add(t testing.TB, label, kind string) string {
	t.Helper()
	k.must(t, "softhsm2-util", "--init-token", "--free", "--label", label, "--pin", "1234", "--so-pin", "12345678")
	k.must(t, "pkcs11-tool", "--module", softHSM, "--token-label", label, "--login", "--pin", "1234", "--keypairgen",
		"--key-type", kind, "--id", "01", "--label", "key", "--usage-decrypt", "--usage-derive")
	for line := range strings.Lines(k.must(t, "lockport", "enroll", "--pkcs11-token-uri=list")) {
		if uri, rest, _ := strings.Cut(line, " "); strings.HasPrefix(strings.TrimSpace(rest), label+" ") {
			return uri
		}
	}
	t.Fatalf("token %s is not listed", label)
	return ""
}

// opens attaches with a security token, whose PIN is in the environment.
func (k tokens) opens(t testing.TB, s side, dev, keyFile, options string) {
	t.Helper()
	argv := with(s.attach, "token", dev, keyFile, options)
	if r := try(t, "", k.env, argv...); r.code != 0 {
		t.Errorf("%v: exit code %d\n%s%s", argv, r.code, r.stdout, r.stderr)
		return
	}
	run(t, with(s.detach, "token")...)
}

// What either enrols with a security token, the other attaches.
func TestPKCS11(t *testing.T) {
	for _, kind := range []string{"rsa:2048", "EC:prime256v1", "EC:secp384r1"} {
		t.Run(kind, func(t *testing.T) {
			dev, _ := formatDisk(t)
			attached(t, "token")
			k := newTokens(t)
			uri := k.add(t, "card", kind)
			for _, enroller := range sides {
				run(t, "systemd-cryptenroll", "--wipe-slot=pkcs11", dev)
				for _, name := range []string{"auto", uri} {
					enroller.enrollMore(t, dev, k.env, "--pkcs11-token-uri="+name)
					for _, opener := range sides {
						k.opens(t, opener, dev, "-", "headless,pkcs11-uri=auto")
					}
					if table := run(t, "systemd-cryptenroll", dev); strings.Count(table, "pkcs11") != 1 {
						t.Errorf("by %s:\n%s", enroller, table)
					}
					run(t, "systemd-cryptenroll", "--wipe-slot=pkcs11", dev)
				}
			}
		})
	}
}

// Without the option the token of the header is reason enough; a wrong PIN from the
// environment is final for the token, and something else may open the volume.
func TestPKCS11Fallback(t *testing.T) {
	dev, key := formatDisk(t)
	attached(t, "token")
	k := newTokens(t)
	k.add(t, "card", "rsa:2048")
	ours.enrollMore(t, dev, k.env, "--pkcs11-token-uri=auto")
	k.opens(t, ours, dev, "-", "headless")
	wrong := []string{k.env[0], "PIN=0000"}
	r := try(t, "", wrong, "lockport", "attach", "token", dev, "-", "headless,pkcs11-uri=auto")
	if r.code != 1 || !strings.Contains(r.stderr, "security token card: wrong PIN") {
		t.Errorf("a wrong PIN: exit code %d\n%s", r.code, r.stderr)
	}
	// Without the card: it is asked for, and then the key file is used.
	gone := []string{"SOFTHSM2_CONF=" + newTokens(t).env[0][len("SOFTHSM2_CONF="):]}
	r = try(t, "", gone, "lockport", "attach", "token", dev, key, "pkcs11-uri=auto,token-timeout=1s,headless")
	if r.code != 0 {
		t.Fatalf("without the token: exit code %d\n%s", r.code, r.stderr)
	}
	run(t, "lockport", "detach", "token")
	r = try(t, "", gone, "lockport", "attach", "token", dev, "-", "pkcs11-uri=auto,token-timeout=1s,headless")
	if r.code == 0 || !strings.Contains(r.stderr, "Waiting for security token pkcs11:") || !strings.Contains(r.stderr, "is not there") {
		t.Errorf("without anything: exit code %d\n%s", r.code, r.stderr)
	}
}

// What was encrypted for a security token may be in a file, as crypttab(5) has it.
func TestPKCS11KeyFile(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "token")
	k := newTokens(t)
	uri := k.add(t, "card", "rsa:2048")
	dir := t.TempDir()
	public, plain, data := filepath.Join(dir, "public.der"), filepath.Join(dir, "plain"), filepath.Join(dir, "data")
	k.must(t, "pkcs11-tool", "--module", softHSM, "--token-label", "card", "--read-object", "--type", "pubkey", "--id", "01", "--output-file", public)
	run(t, "openssl", "rand", "-out", plain, "64")
	run(t, "openssl", "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", public, "-in", plain, "-out", data)
	passphrase := run(t, "openssl", "base64", "-A", "-in", plain)
	if r := try(t, "", []string{"PASSWORD=first", "NEWPASSWORD=" + passphrase}, "systemd-cryptenroll", "--password", dev); r.code != 0 {
		t.Fatalf("exit code %d\n%s", r.code, r.stderr)
	}
	for _, s := range sides {
		k.opens(t, s, dev, data, "headless,pkcs11-uri="+uri)
	}
}

// A person types the PIN, at first a wrong one.
func TestPKCS11Prompt(t *testing.T) {
	dev, _ := formatDisk(t)
	attached(t, "token")
	k := newTokens(t)
	k.add(t, "card", "EC:prime256v1")
	ours.enrollMore(t, dev, k.env, "--pkcs11-token-uri=auto")
	c := startConsole(t, "env", k.env[0], "lockport", "attach", "token", dev, "-", "pkcs11-uri=auto")
	c.expect("Please enter PIN of security token card for disk " + dev + " (token):")
	c.send("0000\n")
	c.expect("security token card: wrong PIN")
	c.expect("Please enter PIN of security token card")
	c.send("1234\n")
	c.wait()
	run(t, "lockport", "detach", "token")
}

// What systemd enrolled on other machines opens here: with RSA by 252, with an
// elliptic curve by 257.
func TestPKCS11Samples(t *testing.T) {
	for _, release := range []string{"252", "257"} {
		dir := t.TempDir()
		run(t, "tar", "-xzf", "/share/vectors/softhsm-"+release+".tar.gz", "-C", dir)
		config := write(t, "softhsm2.conf", "directories.tokendir = "+filepath.Join(dir, "softhsm-"+release+"-tokens")+"\nobjectstore.backend = file\n")
		volume := write(t, "v.img", run(t, "gzip", "-dc", "/share/vectors/v"+release+".img.gz"))
		k := tokens{[]string{"SOFTHSM2_CONF=" + config, "PIN=1234"}}
		if text := k.must(t, "lockport", "test", "--pkcs11-uri=auto", volume); !strings.Contains(text, " opens (pkcs11)") {
			t.Errorf("of %s: %s", release, text)
		}
	}
}
