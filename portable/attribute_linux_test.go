package portable

import (
	"testing"

	"golang.org/x/sys/unix"
)

func setAttribute(t *testing.T, p, name, value string) {
	t.Helper()
	if err := unix.Setxattr(p, name, []byte(value), 0); err != nil {
		t.Skip(err)
	}
}
