package tpm2

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// appendLog adds a record to systemd's log of measurements. The lock on the file
// keeps records of several programs apart.
func appendLog(root string, pcr int, word string, digests []logDigest) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return err
	}
	record, err := volumeKeyRecord(pcr, word, digests, BootID(root), uint64(now.Nano()/1000))
	if err != nil {
		return err
	}
	path := filepath.Join(root, logFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err == nil {
		_, err = f.Write(record)
	}
	return errors.Join(err, f.Close())
}

// BootID returns the kernel's name for this boot in 32 hexadecimal digits, "" if
// it is not known. root is as for [Open].
func BootID(root string) string {
	if root == "" {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")
}
