//go:build race

package idle_test

// raced tells whether this binary has the race detector.
const raced = true
