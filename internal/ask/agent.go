package ask

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// maxReply bounds what an agent may send, in bytes.
const maxReply = 16 << 10

// errCancelled says that an agent passed on a person's refusal.
var errCancelled = fmt.Errorf("the question was cancelled: %w", volume.ErrNoAnswer)

// request is a question in the form of the password agent specification.
type request struct {
	pid          int
	socket       string
	acceptCached bool
	echo         volume.Echo
	notAfter     uint64 // on the monotonic clock, in microseconds; 0 for never
	message, id  string
}

// text returns the file that agents read.
func (r request) text() string {
	var b strings.Builder
	b.WriteString("[Ask]\n")
	fmt.Fprintf(&b, "PID=%d\nSocket=%s\n", r.pid, r.socket)
	fmt.Fprintf(&b, "AcceptCached=%d\nEcho=%d\n", digit(r.acceptCached), digit(r.echo == volume.EchoPlain))
	fmt.Fprintf(&b, "NotAfter=%d\nSilent=%d\n", r.notAfter, digit(r.echo == volume.EchoNone))
	fmt.Fprintf(&b, "Message=%s\nIcon=drive-harddisk\n", prompt(r.message))
	if r.id != "" {
		fmt.Fprintf(&b, "Id=%s\n", clean(r.id))
	}
	return b.String()
}

func digit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// parseReply reads what an agent sent: "+" and the answers, separated by NUL, or
// "-" for a refusal, which is errCancelled. "+" alone is the empty answer. It
// leaves the datagram as it is; the caller wipes the secrets.
func parseReply(datagram []byte) ([]*secret.Bytes, error) {
	switch {
	case len(datagram) == 0:
		return nil, errors.New("empty reply")
	case datagram[0] == '-':
		return nil, errCancelled
	case datagram[0] != '+':
		return nil, errors.New("reply is neither an answer nor a refusal")
	case len(datagram) == 1:
		return []*secret.Bytes{secret.New(0)}, nil
	}
	return split(datagram[1:])
}

// mayAnswer tells whether an agent of that user is to be believed.
func mayAnswer(agent, own uint32) bool { return agent == 0 || agent == own }
