//go:build linux

// Command softkey is a FIDO2 security key made of software that any program can use:
// it plugs itself in through /dev/uhid, for as long as it runs. It is for tests: what
// the key keeps secret stands in a file.
//
//	softkey -state FILE [flags]
//
// It prints the path of its device node once that exists. The flags count when the
// file is new; a file that exists says itself what kind of key it is.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lockport/lockport/fido2/fido2test"
)

// keepalivePace is how often a real key gives signs of life.
const keepalivePace = 100 * time.Millisecond

func main() {
	var c fido2test.Config
	state := flag.String("state", "", "`file` that keeps the key's state")
	protocols := flag.String("protocols", "", "PIN protocols, the favourite first, such as `2,1`")
	flag.StringVar(&c.Name, "name", "", "what the key calls itself")
	flag.StringVar(&c.PIN, "pin", "", "its PIN")
	flag.StringVar(&c.UV, "uv", "", "verifies its user: ok or fails")
	flag.StringVar(&c.Touch, "touch", "", "is touched: at once, or slow, never or wait (until cancelled)")
	flag.BoolVar(&c.CTAP20, "ctap20", false, "speaks only CTAP 2.0")
	flag.BoolVar(&c.AlwaysUV, "always-uv", false, "always verifies its user")
	flag.BoolVar(&c.ShyUV, "shy-uv", false, "says nothing of its credentials without that")
	flag.BoolVar(&c.NoHMACSecret, "no-hmac-secret", false, "has no hmac-secret")
	flag.BoolVar(&c.HMACTouch, "hmac-touch", false, "has hmac-secret only with a touch")
	flag.BoolVar(&c.NoUP, "no-up", false, "can't be touched")
	flag.Parse()
	if err := run(*state, *protocols, c); err != nil {
		fmt.Fprintln(os.Stderr, "softkey:", err)
		os.Exit(1)
	}
}

func run(state, protocols string, c fido2test.Config) error {
	for _, p := range strings.FieldsFunc(protocols, func(r rune) bool { return r == ',' }) {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil {
			return fmt.Errorf("-protocols: %w", err)
		}
		c.Protocols = append(c.Protocols, n)
	}
	key := fido2test.New(c)
	if state != "" {
		var err error
		if key, err = fido2test.Load(state, c); err != nil {
			return err
		}
	}
	key.Pace = keepalivePace
	d, err := plug(key)
	if err != nil {
		return err
	}
	defer d.Close()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	failed := make(chan error, 1)
	go func() { failed <- d.serve() }()
	path, err := d.path()
	if err != nil {
		return err
	}
	fmt.Println(path)
	select {
	case <-ended:
		return nil
	case err := <-failed:
		return err
	}
}
