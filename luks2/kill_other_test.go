//go:build !linux

package luks2_test

// victim is of use where there are files with locks only.
func victim() {}
