//go:build !secretcount

package secret

type mark struct{}

func (mark) born(*Bytes) {}
func (mark) died(*Bytes) {}

// Live returns how many secrets are alive and where they were made. It counts
// only in builds with the tag secretcount; elsewhere it returns nothing.
func Live() []string { return nil }
