package idle_test

import (
	"context"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/lockport/lockport/idle"
)

// A web server that systemd starts for its first client and that exits after a
// minute without one, or at SIGTERM when all requests are answered.
func Example() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	m, err := idle.FromManager()
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           http.FileServer(http.Dir("/srv/www")),
		ReadHeaderTimeout: 10 * time.Second,
	}
	server.SetKeepAlivesEnabled(false)
	s := &idle.Server{Timeout: time.Minute, Manager: m}
	if err := s.RunHTTP(ctx, server, m.Listeners...); err != nil {
		log.Fatal(err)
	}
}
