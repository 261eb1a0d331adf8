//go:build linux

// Command walkthrough is the service in the portable images of the machine
// tests: it greets whoever connects to the socket that it is handed over, and
// counts the greetings in its state directory.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

func main() {
	// The service manager passes the socket as the third file.
	listener, err := net.FileListener(os.NewFile(3, "socket"))
	if err == nil {
		err = http.Serve(listener, &visitors{file: filepath.Join(os.Getenv("STATE_DIRECTORY"), "visitors")})
	}
	fmt.Fprintf(os.Stderr, "walkthrough: %v\n", err)
	os.Exit(1)
}

// visitors counts them in a file.
type visitors struct {
	sync.Mutex
	file string
}

func (v *visitors) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	v.Lock()
	defer v.Unlock()
	text, _ := os.ReadFile(v.file) // none yet
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if err := os.WriteFile(v.file, []byte(strconv.Itoa(n+1)), 0o644); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "Hello! You are visitor #%d!\n", n+1)
}
