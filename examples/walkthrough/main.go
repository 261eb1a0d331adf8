// Walkthrough-go counts its visitors: a small service that is started by its first
// client, exits when nobody comes, and still loses neither a visitor nor the count.
// It is the example of package idle, and of what goes into a portable service.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/lockport/lockport/idle"
)

func main() {
	log.SetFlags(0) // the journal has the time
	timeout := flag.Duration("idle-timeout", 30*time.Second, "exit after this long without a connection; 0 is never")
	listen := flag.String("listen", "", "listen on this TCP address if the service manager gives no sockets")
	flag.Parse()
	if err := run(*timeout, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(timeout time.Duration, listen string) error {
	// systemd sends SIGTERM when the service is to stop. Where threads are scarce, as
	// in the strictest profile of portable services, that ends the process at once.
	ctx := context.Background()
	if tasksAllowed("/proc/self/cgroup", "/sys/fs/cgroup") >= signalTasks {
		var cancel context.CancelFunc
		ctx, cancel = signal.NotifyContext(ctx, syscall.SIGTERM)
		defer cancel()
	}

	// systemd made the directory: StateDirectory=. If there are several, take the first.
	state := filepath.SplitList(os.Getenv("STATE_DIRECTORY"))
	if len(state) == 0 {
		return errors.New("$STATE_DIRECTORY names no directory to keep the count in")
	}
	visitors, err := openCounter(filepath.Join(state[0], "visitors"))
	if err != nil {
		return err
	}
	defer visitors.close()

	// The sockets that systemd listens on for us, or one of our own.
	manager, err := idle.FromManager()
	if err != nil {
		return err
	}
	listeners := manager.Listeners
	if len(listeners) == 0 {
		if listen == "" {
			return errors.New("the service manager gives no sockets: use --listen=ADDR")
		}
		l, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}

	server := &http.Server{
		Handler:           handler(visitors),
		ReadHeaderTimeout: 10 * time.Second, // a silent client does not keep us running
	}
	// Each visit is a connection of its own. A kept-alive one could be closed just
	// when the next request is on its way; see the comment of package idle.
	server.SetKeepAlivesEnabled(false)

	// This returns when nobody has come for a while, or at SIGTERM. Every visitor that
	// was let in has then been served; the next one makes systemd start us again.
	s := &idle.Server{Timeout: timeout, Manager: manager}
	return s.RunHTTP(ctx, server, listeners...)
}

func handler(visitors *counter) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		n, err := visitors.next() // it is on the disk when this returns
		if err != nil {           // the counter has logged it
			http.Error(w, "Sorry, you can't be counted now.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "Hello! You are visitor #%d!\n", n)
	})
	return mux
}
