package idle

import "net"

// close closes the connection. What has a connection open is counted until after
// that, so that the process does not exit in between.
func (t *ticket) close() error {
	err := t.conn.Close()
	t.gate.finish(t)
	return err
}

// wrap returns the connection as a type whose Close is counted. All else a TCP or
// Unix connection can do, it can do too: half-close, sendfile, SyscallConn.
func (t *ticket) wrap() net.Conn {
	switch c := t.conn.(type) {
	case *net.TCPConn:
		return &tcpConn{c, t}
	case *net.UnixConn:
		return &unixConn{c, t}
	}
	return &anyConn{t.conn, t}
}

// ticketed is a connection that came through a gate.
type ticketed interface{ ticketOf() *ticket }

type tcpConn struct {
	*net.TCPConn
	ticket *ticket
}

func (c *tcpConn) Close() error      { return c.ticket.close() }
func (c *tcpConn) ticketOf() *ticket { return c.ticket }

type unixConn struct {
	*net.UnixConn
	ticket *ticket
}

func (c *unixConn) Close() error      { return c.ticket.close() }
func (c *unixConn) ticketOf() *ticket { return c.ticket }

type anyConn struct {
	net.Conn
	ticket *ticket
}

func (c *anyConn) Close() error      { return c.ticket.close() }
func (c *anyConn) ticketOf() *ticket { return c.ticket }
