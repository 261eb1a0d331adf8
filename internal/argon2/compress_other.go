//go:build !amd64

package argon2

func compressor() compressFunc { return compressGeneric }

func prefetch(*block) {}
