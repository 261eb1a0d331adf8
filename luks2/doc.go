// Package luks2 reads and writes the LUKS2 on-disk format: both header copies,
// keyslots, digests, tokens and segments, on block devices, plain files and
// slices of bytes.
//
// A header is hostile input. It is read once into memory and validated
// strictly there; what is derived from it, the kernel's table included, comes
// from those same bytes.
//
// Format: LUKS2 On-Disk Format Specification 1.1.x and libcryptsetup 2.x.
package luks2
