package volume

// Unhelpful marks an error of a device that can't open the volume: as with [Next]
// another method may do better, and it takes no attempt from the person who is
// asked next.
func Unhelpful(err error) error { return free{err} }
