// Activate does for one program what systemd does for a service with a socket: it
// listens, starts the program when somebody comes, and again after it has exited.
// The tour of this project uses it, to need neither root nor a running systemd. It
// is the whole of the protocol of sd_listen_fds(3), seen from the other side.
//
//	activate serve ADDRESS PROGRAM [ARGUMENT…]
//	activate get URL
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const usage = "usage: activate serve ADDRESS PROGRAM [ARGUMENT…] | activate get URL"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "activate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "get":
		return get(args[1])
	case len(args) > 2 && args[0] == "serve":
		return serve(args[1], args[2:])
	case len(args) > 1 && args[0] == "become":
		return become(args[1:])
	}
	return errors.New(usage)
}

// serve listens until it is killed. It never accepts: that is for the program.
func serve(address string, program []string) error {
	runtime.LockOSThread() // what goes with its parent goes with the thread that started it
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	for {
		if err := wait(socket); err != nil {
			return err
		}
		fmt.Println("somebody comes: starting the service")
		if err := start(socket, program); err != nil {
			return err
		}
		fmt.Println("the service has exited")
	}
}

// wait returns when somebody has connected. A connection that was not accepted
// when the program exited is seen as well, so that nobody is lost.
func wait(socket *os.File) error {
	for {
		list := []unix.PollFd{{Fd: int32(socket.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(list, -1); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// start runs the program until it exits. LISTEN_PID= is its own process ID, which
// nobody knows before it runs: so it is this program that is started, and becomes
// the other one.
func start(socket *os.File, program []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{"become"}, program...)...)
	cmd.ExtraFiles = []*os.File{socket} // the first of these is file 3, where the protocol has it
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// It goes when we do, in whatever way.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd.Run()
}

func become(program []string) error {
	path, err := exec.LookPath(program[0])
	if err != nil {
		return err
	}
	env := append(os.Environ(), "LISTEN_PID="+strconv.Itoa(os.Getpid()), "LISTEN_FDS=1")
	return syscall.Exec(path, program, env)
}

// get prints what a web server answers.
func get(url string) error {
	client := &http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	_, err = io.Copy(os.Stdout, r.Body)
	return err
}
