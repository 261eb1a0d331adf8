package ask

import (
	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/volume"
)

// cacheWatch tells when somebody has put a typed answer into the cache: then
// they touch the directory of the agents. A nil watch tells nothing.
type cacheWatch struct {
	inotify int
	cached  func() (volume.Answer, bool)
}

// watchCache returns nil when the question is not one for the cache, or when
// nobody would tell.
func (a *Asker) watchCache(q volume.Question) *cacheWatch {
	if !a.cacheable(q) || a.config.Agents == "" {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	if _, err := unix.InotifyAddWatch(fd, a.config.Agents, unix.IN_ATTRIB|unix.IN_ONLYDIR); err != nil {
		_ = unix.Close(fd)
		return nil
	}
	return &cacheWatch{inotify: fd, cached: func() (volume.Answer, bool) { return a.cached(q) }}
}

// fd returns a descriptor to wait for, negative when there is none.
func (w *cacheWatch) fd() int {
	if w == nil {
		return -1
	}
	return w.inotify
}

// answer looks into the cache after fd was ready.
func (w *cacheWatch) answer() (volume.Answer, bool) {
	events := make([]byte, 4096)
	for {
		if n, err := unix.Read(w.inotify, events); n <= 0 || err != nil {
			break
		}
	}
	return w.cached()
}

func (w *cacheWatch) close() {
	if w != nil {
		_ = unix.Close(w.inotify)
	}
}
