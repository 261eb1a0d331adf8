//go:build !linux

package image

import "time"

func birth(*Tree, string) (time.Time, bool) { return time.Time{}, false }

func writable(*Tree, string) bool { return true }

func directoryType(*Tree, string) Type { return Directory }

func readOnlyDevice(*Tree, string) bool { return false }
