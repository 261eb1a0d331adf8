//go:build unix

package idle_test

import "syscall"

const errNoFiles = syscall.EMFILE
