package ask

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// wokenUp is what wait returns after the process was stopped and goes on.
const wokenUp = -1

// waker ends a wait for files when the context ends or the process goes on
// after it was stopped.
type waker struct {
	r, w    *os.File
	detach  func() bool
	signals chan os.Signal
	done    chan struct{}
}

// newWaker must be closed.
func newWaker(ctx context.Context) (*waker, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	k := &waker{r: r, w: w, signals: make(chan os.Signal, 1), done: make(chan struct{})}
	k.detach = context.AfterFunc(ctx, k.poke)
	signal.Notify(k.signals, unix.SIGCONT)
	go func() {
		for {
			select {
			case <-k.signals:
				k.poke()
			case <-k.done:
				return
			}
		}
	}()
	return k, nil
}

func (k *waker) poke() { _, _ = k.w.Write([]byte{0}) }

// away calls f, which may stop the process, and wakes once however often the
// process is told to go on meanwhile.
func (k *waker) away(f func()) {
	signal.Stop(k.signals)
	f()
	signal.Notify(k.signals, unix.SIGCONT)
	k.poke()
}

func (k *waker) close() {
	k.detach()
	signal.Stop(k.signals)
	close(k.done)
	_ = k.w.Close()
	_ = k.r.Close()
}

// wait returns the index of the first file that can be read, or wokenUp, or the
// context's error. Negative descriptors are left out.
func (k *waker) wait(ctx context.Context, fds ...int) (int, error) {
	list := []unix.PollFd{{Fd: int32(k.r.Fd()), Events: unix.POLLIN}}
	for _, fd := range fds {
		list = append(list, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		_, err := unix.Poll(list, -1)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		if err != nil {
			continue
		}
		if list[0].Revents != 0 {
			_, _ = unix.Read(int(list[0].Fd), make([]byte, 16))
			return wokenUp, nil
		}
		for i := range fds {
			if list[i+1].Revents != 0 {
				return i, nil
			}
		}
	}
}
