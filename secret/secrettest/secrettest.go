// Package secrettest fails a test run that leaves secrets alive.
package secrettest

import (
	"fmt"
	"os"
	"testing"

	"github.com/lockport/lockport/secret"
)

// Main runs the tests of a package and exits non-zero when a test failed or a
// secret was never wiped. Counting needs the build tag secretcount, which
// `make test` sets. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	for _, stack := range secret.Live() {
		fmt.Fprintf(os.Stderr, "secret never wiped, made at:\n%s\n", stack)
		code = max(code, 1)
	}
	os.Exit(code)
}
