// Package bustest is a service manager for tests. It speaks D-Bus on a socket, as
// systemd's private one or as a bus with systemd on it, and knows units but runs
// nothing.
package bustest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Unit is what the manager has of a unit.
type Unit struct {
	Active string // "" if it is not loaded
	File   string // state of its file; "" if there is none
	Result string // how its jobs end; "" for done
}

// Manager is a service manager. Fields are set before it is started.
type Manager struct {
	Units map[string]Unit
	// Early announces the end of a job before the call that began it is answered.
	Early bool
	// Forever is called instead of ending a job.
	Forever func()
	// Refuse is the error that answers all calls.
	Refuse string
	// Odd answers with a text, whatever was to be told.
	Odd bool
	// Late is a member whose calls are answered only behind the next call.
	Late string
	// Hook may take a call over, and write to the connection what it likes.
	Hook func(member string, conn net.Conn) (taken bool)
	// Log is told of each call, after the login; may be nil. Calls do not overlap.
	Log func(call string)

	mu      sync.Mutex
	serial  uint32
	job     uint32
	waiting *dbus.Message
}

// Serve answers those who connect, until the listener is closed.
func (m *Manager) Serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = m.talk(conn)
		}()
	}
}

// talk is one connection until it ends.
func (m *Manager) talk(conn net.Conn) error {
	in := bufio.NewReader(conn)
	if err := login(in, conn); err != nil {
		return err
	}
	for {
		msg, err := dbus.DecodeMessage(in)
		if err != nil {
			return err
		}
		if msg.Type != dbus.TypeMethodCall {
			continue
		}
		if err := m.answer(conn, msg); err != nil {
			return err
		}
	}
}

// login is the server's side of EXTERNAL.
func login(in *bufio.Reader, out io.Writer) error {
	if b, err := in.ReadByte(); err != nil || b != 0 {
		return errors.New("no null byte")
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		answer := "ERROR\r\n"
		switch line = strings.TrimSpace(line); {
		case line == "BEGIN":
			return nil
		case line == "AUTH":
			answer = "REJECTED EXTERNAL\r\n"
		case line == "AUTH EXTERNAL": // without saying who; the kernel knows
			answer = "DATA\r\n"
		case line == "DATA":
			answer = "OK 0123456789abcdef0123456789abcdef\r\n"
		}
		if _, err := io.WriteString(out, answer); err != nil {
			return err
		}
	}
}

func (m *Manager) answer(conn net.Conn, msg *dbus.Message) error {
	member, _ := msg.Headers[dbus.FieldMember].Value().(string)
	if member == "Ping" && m.Late != "Ping" { // as good as part of the login
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.reply(conn, msg)
	}
	if m.Hook != nil && m.Hook(member, conn) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Log != nil {
		m.Log(strings.TrimSpace(fmt.Sprintf("%s %v", member, text(msg.Body))))
	}
	late := m.waiting
	if m.waiting = nil; late == nil && member == m.Late {
		m.waiting = msg
		return nil
	}
	err := m.meet(conn, msg, member)
	if late != nil && err == nil {
		err = m.meet(conn, late, m.Late)
	}
	return err
}

// meet does what a call asks for.
func (m *Manager) meet(conn net.Conn, msg *dbus.Message, member string) error {
	switch {
	case m.Refuse != "":
		return m.refuse(conn, msg, m.Refuse, "refused")
	case m.Odd:
		return m.reply(conn, msg, "something else")
	}
	switch member {
	case "Hello":
		return m.reply(conn, msg, ":1.7")
	case "AddMatch", "Subscribe", "Reload", "CleanUnit", "Ping":
		return m.reply(conn, msg)
	case "ListUnitsByPatterns":
		return m.reply(conn, msg, m.loaded(msg.Body[1].([]string)))
	case "ListUnitsFiltered":
		return m.reply(conn, msg, slices.DeleteFunc(m.loaded(nil), func(u loadedUnit) bool {
			return !slices.Contains(msg.Body[0].([]string), u.Active)
		}))
	case "ListUnitFilesByPatterns":
		return m.reply(conn, msg, m.files(msg.Body[1].([]string)))
	case "EnableUnitFilesWithFlags", "DisableUnitFilesWithFlags":
		return m.enable(conn, msg, member[0] == 'E')
	case "StartUnit", "StopUnit", "RestartUnit":
		return m.run(conn, msg, member)
	}
	return m.refuse(conn, msg, "org.freedesktop.DBus.Error.UnknownMethod", "unknown method "+member)
}

// text is what a call says, without what is empty.
func text(args []any) string {
	var words []string
	for _, a := range args {
		if s := fmt.Sprint(a); s != "[]" {
			words = append(words, s)
		}
	}
	return strings.Join(words, " ")
}

type loadedUnit struct {
	Name, Description, Load, Active, Sub, Following string
	Object                                          dbus.ObjectPath
	Job                                             uint32
	JobType                                         string
	JobObject                                       dbus.ObjectPath
}

func (m *Manager) loaded(patterns []string) []loadedUnit {
	list := []loadedUnit{}
	for _, name := range m.matching(patterns) {
		if u := m.Units[name]; u.Active != "" {
			list = append(list, loadedUnit{Name: name, Load: "loaded", Active: u.Active, Object: "/u", JobObject: "/"})
		}
	}
	return list
}

type unitFile struct{ Path, State string }

func (m *Manager) files(patterns []string) []unitFile {
	list := []unitFile{}
	for _, name := range m.matching(patterns) {
		if u := m.Units[name]; u.File != "" {
			list = append(list, unitFile{"/etc/systemd/system.attached/" + name, u.File})
		}
	}
	return list
}

// matching returns the names that one of the patterns means; none mean all.
func (m *Manager) matching(patterns []string) []string {
	var list []string
	for name := range m.Units {
		if len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok }) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

type change struct{ Type, Path, Source string }

func (m *Manager) enable(conn net.Conn, msg *dbus.Message, on bool) error {
	changes := []change{}
	for _, file := range msg.Body[0].([]string) {
		name := path.Base(file)
		u, ok := m.Units[name]
		if !ok || u.File == "" {
			return m.refuse(conn, msg, "org.freedesktop.systemd1.NoSuchUnit", "Unit "+name+" does not exist")
		}
		if u.File == "static" {
			continue
		}
		link := "/etc/systemd/system.attached/multi-user.target.wants/" + name
		u.File = "disabled"
		c := change{"unlink", link, ""}
		if on {
			u.File = "enabled"
			c = change{"symlink", link, file}
		}
		m.Units[name] = u
		changes = append(changes, c)
	}
	if on {
		return m.reply(conn, msg, true, changes)
	}
	return m.reply(conn, msg, changes)
}

func (m *Manager) run(conn net.Conn, msg *dbus.Message, member string) error {
	name := msg.Body[0].(string)
	u, ok := m.Units[name]
	if !ok {
		return m.refuse(conn, msg, "org.freedesktop.systemd1.NoSuchUnit", "Unit "+name+" not found.")
	}
	m.job++
	job := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", m.job))
	if u.Result == "" {
		u.Result, u.Active = "done", "active"
		if member == "StopUnit" {
			u.Active = "inactive"
		}
		m.Units[name] = Unit{Active: u.Active, File: u.File}
	}
	if m.Forever != nil {
		err := m.reply(conn, msg, job)
		m.Forever()
		return err
	}
	ended := func() error { return m.signal(conn, "JobRemoved", m.job, job, name, u.Result) }
	if m.Early {
		if err := ended(); err != nil {
			return err
		}
		return m.reply(conn, msg, job)
	}
	if err := m.reply(conn, msg, job); err != nil {
		return err
	}
	return ended()
}

func (m *Manager) reply(conn net.Conn, to *dbus.Message, body ...any) error {
	return m.send(conn, dbus.TypeMethodReply, map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
	}, body)
}

func (m *Manager) refuse(conn net.Conn, to *dbus.Message, name, text string) error {
	return m.send(conn, dbus.TypeError, map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
		dbus.FieldErrorName:   dbus.MakeVariant(name),
	}, []any{text})
}

func (m *Manager) signal(conn net.Conn, member string, body ...any) error {
	return m.send(conn, dbus.TypeSignal, map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
		dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
		dbus.FieldMember:    dbus.MakeVariant(member),
	}, body)
}

func (m *Manager) send(conn net.Conn, t dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body []any) error {
	if len(body) > 0 {
		headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	var b bytes.Buffer
	if err := (&dbus.Message{Type: t, Headers: headers, Body: body}).EncodeTo(&b, binary.LittleEndian); err != nil {
		return err
	}
	m.serial++
	binary.LittleEndian.PutUint32(b.Bytes()[8:], m.serial) // the library only sets those of calls
	_, err := conn.Write(b.Bytes())
	return err
}
