package luks2

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
)

// availableMemory returns the bytes that the kernel would give without
// swapping, and at least one MiB.
func availableMemory() int64 { return meminfo("MemAvailable:", 4<<30) }

// totalMemory returns the bytes of RAM.
func totalMemory() int64 { return meminfo("MemTotal:", 4<<30) }

func meminfo(field string, otherwise int64) int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return otherwise
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := bytes.Fields(lines.Bytes())
		if len(words) > 1 && string(words[0]) == field {
			if kib, err := strconv.ParseInt(string(words[1]), 10, 40); err == nil {
				return max(kib<<10, 1<<20)
			}
		}
	}
	return otherwise
}
