// Command tally turns the events of `go test -json` or `go tool test2json`
// into readable lines as they come, counts tests and subtests, and exits
// non-zero when one failed, never ended, or none ran at all.
//
//	go test -json ./... | tally [-v] [-o counts]
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	verbose := flag.Bool("v", false, "print all that the tests print, not only of those that fail")
	counts := flag.String("o", "", "append a line `passed failed skipped` to this file")
	flag.Parse()
	t := newTally(os.Stdout, *verbose)
	err := t.read(os.Stdin)
	t.finish()
	if err == nil && *counts != "" {
		err = appendLine(*counts, fmt.Sprintln(t.passed, t.failed, t.skipped))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "tally: %v\n", err)
	}
	if err != nil || t.failed > 0 {
		os.Exit(1)
	}
}

// appendLine adds one line to the end of a file.
func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
