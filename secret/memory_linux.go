package secret

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocate returns at least n zero bytes in pages of their own: locked, so that
// they are not swapped out, and left out of core dumps and forked children.
func allocate(n int) []byte {
	size := (max(n, 1) + os.Getpagesize() - 1) &^ (os.Getpagesize() - 1)
	page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		// As for the heap, running out of memory is not an error to handle.
		panic("secret: out of memory")
	}
	// Locking is bounded for ordinary users (RLIMIT_MEMLOCK). A secret that
	// can't be locked is still better held than refused.
	_ = unix.Mlock(page)
	_ = unix.Madvise(page, unix.MADV_DONTDUMP)
	_ = unix.Madvise(page, unix.MADV_WIPEONFORK)
	return page
}

func release(page []byte) { _ = unix.Munmap(page) }

// Harden forbids core dumps of this process and its being traced by other
// processes of the same user. It is called first thing by programs that will
// handle secrets.
func Harden() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
