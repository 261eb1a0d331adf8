//go:build !linux

package image

import "os"

func newDirectory(root *os.Root) directory { return stepwise{below{root}} }
