//go:build 386 || mips || mipsle || ppc

package kernel

import (
	"errors"
	"time"
)

// These machines know other system calls; there we make the nodes ourselves.

func semCreate(uint32) (uintptr, error)        { return 0, errors.ErrUnsupported }
func semRemove(uintptr)                        {}
func semWaitZero(uintptr, time.Duration) error { return errors.ErrUnsupported }
