package main

import (
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/mdp/qrterminal/v3"

	"github.com/lockport/lockport/secret"
)

// printRecoveryKey writes the key alone to standard output, so that it can be
// captured, and everything that helps a person to the terminal.
func (a *app) printRecoveryKey(key *secret.Bytes) error {
	watched := isTerminal(a.err)
	if watched {
		fmt.Fprint(a.err, "This is the recovery key of the volume:\n\n    ")
	}
	// Without a copy that could not be wiped.
	if _, err := a.out.Write(key.Reveal()); err != nil {
		return err
	}
	if _, err := a.out.Write([]byte{'\n'}); err != nil {
		return err
	}
	if !watched {
		return nil
	}
	fmt.Fprint(a.err, "\nPrint it or write it down and keep it in a safe place: it opens the volume\n"+
		"when nothing else does. It is not stored anywhere and won't be shown again.\n")
	if utf8Terminal() {
		a.printQR(key)
	}
	return nil
}

func (a *app) printQR(key *secret.Bytes) {
	fmt.Fprint(a.err, "\nScan it to store it elsewhere:\n\n")
	b := key.Reveal()
	qrterminal.GenerateHalfBlock(unsafe.String(unsafe.SliceData(b), len(b)), qrterminal.L, a.err)
}

// utf8Terminal tells from the locale whether a terminal can show block characters.
func utf8Terminal() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
