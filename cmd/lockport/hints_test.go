package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockport/lockport/image"
	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/pkcs11"
	"github.com/lockport/lockport/tpm2"
)

// needsKernel lists the advice that only comes up where volumes can be mapped;
// the tests of the machine are the place for it.
var needsKernel = []error{errBusy, errMapped}

// needsTPM lists what only a TPM in trouble says; the tests of tpm2 have such.
var needsTPM = []error{tpm2.ErrBank, tpm2.ErrFull, tpm2.ErrBusy, tpm2.ErrOwnerAuth, tpm2.ErrChanging}

// needsCards lists what a script can't do to security tokens; the tests of pkcs11 can.
var needsCards = []error{pkcs11.ErrNoModules, pkcs11.ErrTooOld, pkcs11.ErrLocked}

// needsMounts lists what it takes mounts, or two commands at the same moment, for;
// the tests of image have it.
var needsMounts = []error{image.ErrMounted, image.ErrBusy}

// TestHintsAreTried wants every advice in a script.
func TestHintsAreTried(t *testing.T) {
	t.Parallel()
	var scripts strings.Builder
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(text)
	}
	// As written in patterns: a quote twice, and a backslash before a dot.
	text := strings.NewReplacer("''", "'", `\.`, ".").Replace(scripts.String())
	for _, a := range advice {
		pattern := "hint: " + strings.ReplaceAll(regexp.QuoteMeta(a.text), "DEVICE", `\S+`) + `[$'\n]`
		tried := regexp.MustCompile(pattern).MatchString(text)
		for _, k := range slices.Concat(needsTPM, needsKernel, needsMounts, needsCards) {
			tried = tried || a.cause == k
		}
		if !tried {
			t.Errorf("no script comes to %q", a.text)
		}
	}
}

func TestHint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("anything"), ""},
		{fmt.Errorf("mapping x: %w", errBusy), "close or unmount what uses the volume; 'lsblk' and 'fuser -vm' show it"},
		{fmt.Errorf("mapping x: %w", errMapped), "choose another name, or 'lockport detach NAME' first"},
		{onDevice("/dev/sda2", luks2.ErrNoKeyslot), "'lockport slots /dev/sda2' shows which keyslots there are"},
		{onDevice("a b", luks2.ErrNoKeyslot), "'lockport slots DEVICE' shows which keyslots there are"},
		{onDevice("x", errors.Join(context.Canceled, luks2.ErrNoKeyslot)), ""},
	} {
		if got := hint(c.err, time.Time{}); got != c.want {
			t.Errorf("%v: %q", c.err, got)
		}
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	notThere := &os.PathError{Op: "open", Path: "x", Err: os.ErrNotExist}
	for _, c := range []struct {
		err  error
		want string
	}{
		{onDevice("x", notThere), "x: file does not exist"},
		{onDevice("y", notThere), "y: open x: file does not exist"},
		{onDevice("x", errors.New("x: odd")), "x: odd"},
		{onDevice("x", fmt.Errorf("passphrase: the prompt was interrupted: %w", context.Canceled)), "x: passphrase: the prompt was interrupted"},
		{onDevice("x", context.Canceled), "x: interrupted"},
	} {
		if got := message(c.err); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
	if onDevice("x", nil) != nil {
		t.Error("an error out of nothing")
	}
}
