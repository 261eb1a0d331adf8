package main

import (
	"os"
	"strings"

	"github.com/lockport/lockport/tpm2/uki/ukitest"
)

// newUKI makes a kernel image: new-uki FILE .NAME=CONTENT…, in which @FILE stands
// for what is in a file.
func newUKI() {
	var sections []ukitest.Section
	for _, arg := range os.Args[2:] {
		name, content, _ := strings.Cut(arg, "=")
		if path, ok := strings.CutPrefix(content, "@"); ok {
			text, err := os.ReadFile(path)
			mustWork(err)
			content = string(text)
		}
		sections = append(sections, ukitest.Section{Name: name, Content: content})
	}
	mustWork(os.WriteFile(os.Args[1], ukitest.Build(sections...), 0o600))
}
