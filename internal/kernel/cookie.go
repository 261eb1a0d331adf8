package kernel

// udev's rules for device-mapper devices take their orders from the event
// number of an operation: flags in the upper half, and in the lower half the
// changing part of the key of a semaphore that they lower when they are done.
//
// Source: libdevmapper.h, DM_UDEV_* and DM_COOKIE_MAGIC.
const (
	cookieMagic = 0x0D4D
	udevDoNodes = 0x20 // nobody but udev makes nodes
	udevPrimary = 0x40 // the event comes from an operation, not from a trigger
)

// semKey is the key of the semaphore that belongs to a cookie.
func semKey(cookie uint16) uint32 { return cookieMagic<<16 | uint32(cookie) }

// event is the event number that tells udev what to do. A cookie of 0 asks for
// no answer; then the nodes are ours to make.
func event(cookie uint16) uint32 {
	flags := uint32(udevPrimary)
	if cookie != 0 {
		flags |= udevDoNodes
	}
	return flags<<16 | uint32(cookie)
}
