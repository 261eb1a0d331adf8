// Package images compares what our readers say of real images with what the
// kernel says of them, entry by entry. It is tests only; they take root.
package images
