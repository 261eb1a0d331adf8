//go:build !386 && !mips && !mipsle && !ppc

package kernel

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const semSetValue = 16 // SETVAL of <linux/sem.h>

// semCreate makes a System V semaphore of value one for this user alone.
func semCreate(key uint32) (uintptr, error) {
	id, _, errno := unix.Syscall(unix.SYS_SEMGET, uintptr(key), 1, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if errno != 0 {
		return 0, errno
	}
	if _, _, errno := unix.Syscall6(unix.SYS_SEMCTL, id, 0, semSetValue, 1, 0, 0); errno != 0 {
		semRemove(id)
		return 0, errno
	}
	return id, nil
}

// semRemove removes the semaphore and wakes who waits for it.
func semRemove(id uintptr) { _, _, _ = unix.Syscall(unix.SYS_SEMCTL, id, 0, unix.IPC_RMID) }

// semWaitZero waits until the semaphore is zero. It returns EAGAIN after d,
// EINTR after a signal, EIDRM when the semaphore is gone.
func semWaitZero(id uintptr, d time.Duration) error {
	var op struct { // struct sembuf: number, operation, flags
		number          uint16
		operation, flag int16
	}
	limit := unix.NsecToTimespec(max(d, 0).Nanoseconds())
	_, _, errno := unix.Syscall6(unix.SYS_SEMTIMEDOP, id, uintptr(unsafe.Pointer(&op)), 1, uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
