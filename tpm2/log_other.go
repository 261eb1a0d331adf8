//go:build !linux

package tpm2

import "errors"

func appendLog(string, int, string, []logDigest) error { return errors.ErrUnsupported }

// BootID returns "": only Linux names boots.
func BootID(string) string { return "" }
