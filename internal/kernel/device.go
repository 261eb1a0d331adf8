package kernel

// Device is a block device with its other names.
type Device struct {
	Node  string   // its path
	Links []string // paths that lead to it, sorted
}
