//go:build !linux

package tpm2

// victim is of use where there are files with locks only.
func victim() {}
