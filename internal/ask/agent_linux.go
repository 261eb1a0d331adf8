package ask

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// agents asks the password agents of systemd: programs that watch a directory
// for questions and send the answer to the socket named in them.
type agents struct {
	directory    string
	acceptCached bool
	watch        *cacheWatch
	preface      string // said before the next message
	echo         volume.Echo
}

// openAgents returns errNone when there are no agents.
func (a *Asker) openAgents(q volume.Question) (channel, error) {
	directory := a.config.Agents
	if directory == "" {
		return nil, errNone
	}
	if _, err := os.Stat(filepath.Dir(directory)); err != nil {
		return nil, errNone
	}
	if err := os.Mkdir(directory, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, errNone
	}
	if unix.Access(directory, unix.W_OK|unix.X_OK) != nil {
		return nil, errNone
	}
	return &agents{directory: directory, acceptCached: a.cacheable(q), watch: a.watchCache(q), echo: q.Echo}, nil
}

func (a *agents) close() { a.watch.close() }

// say is shown with the next question, as agents know nothing else.
func (a *agents) say(text string) { a.preface = text + " " }

func (a *agents) ask(ctx context.Context, message, id string) (volume.Answer, error) {
	message, a.preface = a.preface+message, ""
	answer, err := a.query(ctx, message, id)
	if err != nil && ctx.Err() == nil && !errors.Is(err, volume.ErrNoAnswer) {
		err = fmt.Errorf("asking the password agents: %w", err)
	}
	return answer, err
}

func (a *agents) query(ctx context.Context, message, id string) (volume.Answer, error) {
	wake, err := newWaker(ctx)
	if err != nil {
		return volume.Answer{}, err
	}
	defer wake.close()
	path := filepath.Join(a.directory, fmt.Sprintf("sck.%x", randomNumber()))
	socket, err := listen(path)
	if err != nil {
		return volume.Answer{}, err
	}
	defer func() { _ = unix.Close(socket) }()
	defer func() { _ = os.Remove(path) }()
	withdraw, err := publish(a.directory, request{
		pid: os.Getpid(), socket: path, acceptCached: a.acceptCached, echo: a.echo,
		notAfter: notAfter(ctx), message: message, id: id,
	})
	if err != nil {
		return volume.Answer{}, err
	}
	defer withdraw()
	return a.await(ctx, wake, socket)
}

// await waits for an answer of any agent, or of the cache. Replies that are not
// to be believed, or are no replies, are passed over.
func (a *agents) await(ctx context.Context, wake *waker, socket int) (volume.Answer, error) {
	for {
		ready, err := wake.wait(ctx, socket, a.watch.fd())
		switch {
		case err != nil:
			return volume.Answer{}, err
		case ready == 1:
			if answer, found := a.watch.answer(); found {
				return answer, nil
			}
		case ready == 0:
			secrets, err := receive(socket)
			if errors.Is(err, errCancelled) {
				return volume.Answer{}, err
			}
			if err == nil && len(secrets) > 0 {
				return volume.Answer{Secrets: secrets, From: volume.FromPerson}, nil
			}
		}
	}
}

// listen makes the socket for the answer, which only its owner may write to.
func listen(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("making a socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1),
		// The node gets the socket's own mode, without a moment in which it is
		// open to all, and without touching the umask of the whole process.
		unix.Fchmod(fd, 0o600),
	)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("socket %s: %w", path, err)
	}
	return fd, nil
}

// publish shows the question to the agents, whole from the first moment.
func publish(directory string, r request) (withdraw func(), err error) {
	n := randomNumber()
	draft := filepath.Join(directory, fmt.Sprintf("tmp.%x", n))
	final := filepath.Join(directory, fmt.Sprintf("ask.%d", n))
	err = writeFile(draft, r.text())
	if err == nil {
		err = os.Rename(draft, final)
	}
	if err != nil {
		_ = os.Remove(draft)
		return nil, err
	}
	return func() { _ = os.Remove(final) }, nil
}

func writeFile(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	// The umask may have taken away what agents of other users need.
	return errors.Join(err, file.Chmod(0o644), file.Close())
}

// receive reads one datagram. It returns nothing and an error for one that
// doesn't count. The caller wipes the secrets.
func receive(socket int) ([]*secret.Bytes, error) {
	reply := secret.New(maxReply)
	defer reply.Wipe()
	control := make([]byte, 512)
	n, c, flags, _, err := unix.Recvmsg(socket, reply.Reveal(), control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	agent, err := sender(control[:c])
	switch {
	case err != nil:
		return nil, err
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return nil, errors.New("reply is too long")
	case !mayAnswer(agent, uint32(os.Getuid())):
		return nil, fmt.Errorf("reply of user %d, who has no say", agent)
	}
	return parseReply(reply.Reveal()[:n])
}

// sender returns the user that the kernel vouches for, and closes files that
// were sent along.
func sender(control []byte) (uint32, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, err
	}
	var user *uint32
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			user = &cred.Uid
		}
	}
	if user == nil {
		return 0, errors.New("reply does not say who sent it")
	}
	return *user, nil
}

// notAfter returns the context's deadline on the monotonic clock.
func notAfter(ctx context.Context) uint64 {
	deadline, limited := ctx.Deadline()
	var now unix.Timespec
	if !limited || unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return uint64(max(1, (time.Duration(now.Nano()) + time.Until(deadline)).Microseconds()))
}

func randomNumber() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}
