//go:build !linux

package image

import "os"

func getAttribute(*os.File, string) ([]byte, error) { return nil, errNoAttribute }
