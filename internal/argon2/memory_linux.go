package argon2

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// allocate returns n zero bytes at the start of a page, with no memory behind
// them yet, or an error that says why not. It is given back to release.
//
// Huge pages are not asked for: they shorten the passes by a fifth, but where
// the kernel or a hypervisor has to find them first, that took longer than all
// of the work, and it happened too often.
func allocate(n int) ([]byte, error) {
	page, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	lock(page)
	_ = unix.Madvise(page, unix.MADV_DONTDUMP)
	_ = unix.Madvise(page, unix.MADV_WIPEONFORK)
	return page, nil
}

// lock keeps each page out of swap from the moment that it has memory. Ordinary
// users may lock so little (RLIMIT_MEMLOCK) that this often comes to nothing: a
// key that can be derived is better than one that can't. The ordinary mlock is
// no alternative, as it would fault all pages in, one after the other.
func lock(page []byte) {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(page)))
	_, _, _ = unix.Syscall(unix.SYS_MLOCK2, start, uintptr(len(page)), unix.MLOCK_ONFAULT)
}

// populate puts memory behind the bytes of page from start up to end, at a
// fraction of what a fault for each page costs. Kernels before 5.14 don't know
// how; there the faults do the same.
func populate(page []byte, start, end int) error {
	mask := os.Getpagesize() - 1
	start &^= mask
	end = min((end+mask)&^mask, len(page))
	err := unix.Madvise(page[start:end], unix.MADV_POPULATE_WRITE)
	if errors.Is(err, unix.ENOMEM) {
		return err
	}
	return nil
}

// release gives the memory of allocate back.
func release(page []byte) { _ = unix.Munmap(page) }
