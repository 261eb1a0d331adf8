//go:build !linux

// Command softkey needs Linux.
package main

func main() {}
