package ask

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockTerminal waits until no other prompt of ours is on the terminal. The lock
// is on the terminal's own node, which /dev/tty only stands for; where it can't
// be found or opened there is no lock, and the result is nil.
func lockTerminal(ctx context.Context, tty int) (*os.File, error) {
	node := openNode(tty)
	if node == nil {
		return nil, nil
	}
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := unix.Flock(int(node.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return node, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = node.Close()
			return nil, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			_ = node.Close()
			return nil, ctx.Err()
		}
	}
}

// openNode returns nil when there is no node for the terminal.
func openNode(tty int) *os.File {
	device, err := unix.IoctlGetUint32(tty, unix.TIOCGDEV)
	if err != nil {
		return nil
	}
	for _, path := range nodePaths(unix.Major(uint64(device)), unix.Minor(uint64(device))) {
		file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		var stat unix.Stat_t
		if unix.Fstat(int(file.Fd()), &stat) == nil && stat.Rdev == uint64(device) {
			return file
		}
		_ = file.Close()
	}
	return nil
}

// nodePaths returns where the node of a terminal may be. Pseudo terminals have
// the major numbers from 136 to 143.
func nodePaths(major, minor uint32) []string {
	if major >= 136 && major <= 143 {
		return []string{fmt.Sprintf("/dev/pts/%d", (major-136)<<8+minor)}
	}
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/char/%d:%d", major, minor))
	if err != nil {
		return nil
	}
	return []string{"/dev/" + strings.ReplaceAll(filepath.Base(link), "!", "/")}
}
