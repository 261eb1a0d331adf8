// Package kernel is where the program touches the Linux kernel: dm-crypt
// mappings, loop devices, mounts of images, block device properties, keys and locked memory. It
// talks to the kernel by system calls alone, starts no process and links no
// library.
//
// It knows nothing of headers or passphrases: a [Mapper] turns a finished
// luks2.Table and a volume key into /dev/mapper/NAME and back. It agrees with
// libdevmapper on names, nodes and the way of waiting for udev, so that either
// side can remove what the other made.
//
// The package works on Linux; elsewhere its functions return [ErrUnsupported].
package kernel
