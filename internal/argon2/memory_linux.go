package argon2

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// allocate returns n zero bytes of fresh pages, with nothing behind them yet.
func allocate(n int) ([]byte, error) {
	page, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	_ = unix.Madvise(page, unix.MADV_DONTDUMP)
	_ = unix.Madvise(page, unix.MADV_WIPEONFORK)
	return page, nil
}

// populate puts memory behind the bytes of page from start up to end, at a
// fraction of what a fault for each page would cost.
func populate(page []byte, start, end int) error {
	mask := os.Getpagesize() - 1
	start &^= mask
	end = min((end+mask)&^mask, len(page))
	if err := unix.Madvise(page[start:end], unix.MADV_POPULATE_WRITE); errors.Is(err, unix.ENOMEM) {
		return err
	}
	return nil
}

func release(page []byte) { _ = unix.Munmap(page) }
