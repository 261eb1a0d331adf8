// Package idle lets a server exit when nobody needs it, without losing anyone who
// does. It is for stream servers that a service manager starts when a client
// connects (socket activation), and needs nothing but the standard library.
//
// The manager keeps every listening socket open. A connection that the server has
// not accepted waits in the kernel, and after the server's exit makes the manager
// start it again. So a connection is lost only if it is accepted and not served, and
// that is what happens to programs that look whether they are idle and then exit:
// accept may come in between. Server looks when accept can't: it pauses accept by a
// deadline, which leaves the socket as it is, waits until no call is under way, and
// looks again. If a connection has slipped in, it goes on as if nothing had happened.
//
// # What is guaranteed
//
// Run and its kin return nil for idleness only if every connection that was ever
// accepted has been closed by whoever served it, and nothing else is held. From that
// moment on none is accepted. This holds for TCP and Unix sockets, any number of
// them, for hijacked connections, and for a client that connects at the very
// deadline. What a handler wants on the disk must be there before it answers; what
// goes on after an answer must be held (Server.Hold).
//
// After a stop (the context ends, typically at SIGTERM) all requests under way are
// answered, as long as that takes no longer than Server.Drain.
//
// # What is not, and what to do about it
//
// A request that a client sends on a kept-alive connection while the server closes
// that connection for its age is lost. HTTP/1.1 has that race wherever it keeps
// connections alive. Clients repeat such a request by themselves if it is idempotent
// and its body can be sent again. If that is not enough, switch keep-alives off
// (SetKeepAlivesEnabled(false) before serving; each request is then on a connection
// of its own and the guarantee covers it), or set the server's IdleTimeout well above
// the clients' own, so that they close first. The server can't exit before.
//
// A connection that is open and silent keeps the process alive for ever, unless the
// server bounds that: for HTTP set ReadHeaderTimeout and IdleTimeout.
//
// A crash loses what has been accepted. So does a listener of one's own: nobody holds
// it after the exit, and what waits in its queue is reset. Give a Timeout only where a
// manager holds the sockets, or where this does not matter.
//
// # The units
//
// One or more socket units with Accept=no, which is the default, and a service with
// Type=notify (READY=1 is sent when the listeners are served, STOPPING=1 after the
// last look), and Restart=on-failure or none: Restart=always would start it again for
// nobody. The manager gives up a service, and its sockets, that starts more than 5
// times in 10 seconds, and sockets that trigger more than 20 times in 2: a Timeout of 3
// seconds or more stays below that, a shorter one needs StartLimitIntervalSec=0 in the
// service and TriggerLimitIntervalSec=0 in the socket. Keep Drain below TimeoutStopSec=.
// FlushPending= must stay off.
//
// Under a tight TasksMax= (the profile "strict" of portable services allows 4) mind
// that os/signal takes three threads, and that the runtime starts another whenever a
// system call takes more than some microseconds. Environment=GOMAXPROCS=1 with
// TimerSlackNSec=100ms keeps a small server without os/signal at four.
//
// Sources: sd_listen_fds(3), sd_notify(3), systemd.socket(5), systemd.service(5).
package idle
