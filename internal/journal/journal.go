// Package journal writes structured entries to the system's journal.
//
// Source: systemd, docs/JOURNAL_NATIVE_PROTOCOL.md.
package journal

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"
)

// Socket is where the journal takes entries.
const Socket = "/run/systemd/journal/socket"

// sendTime bounds the wait for a journal that does not read.
const sendTime = time.Second

// Send writes one entry, a list of fields and values. A name may come again. What
// does not fit into a datagram is an error.
func Send(ctx context.Context, socket string, fields [][2]string) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unixgram", socket)
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(until)
	}
	if err == nil {
		_, err = conn.Write(entry(fields))
	}
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	return nil
}

// entry is the datagram. A value with a line break goes with its length before it,
// so that none begins another field.
func entry(fields [][2]string) []byte {
	var b []byte
	for _, f := range fields {
		name, value := f[0], f[1]
		b = append(b, name...)
		if strings.Contains(value, "\n") {
			b = append(b, '\n')
			b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
		} else {
			b = append(b, '=')
		}
		b = append(append(b, value...), '\n')
	}
	return b
}
