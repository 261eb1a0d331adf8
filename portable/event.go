package portable

import "path"

// Event is an attachment or detachment that is worth a line in the system's
// journal.
type Event struct {
	ID         string // of the message, as the original has it
	Message    string
	Root       string   // path of the root image
	Extensions []string // their paths
}

// Fields are the entry of the journal, in order; a name may come again. Images are
// called by the last part of their paths.
//
// Source: systemd, src/portable/portable.c: log_portable_verb; src/systemd/sd-messages.h.
func (e Event) Fields() [][2]string {
	list := [][2]string{{"MESSAGE", e.Message}, {"MESSAGE_ID", e.ID}, {"PRIORITY", "6"}, {"SYSLOG_IDENTIFIER", "lockport"}, {"PORTABLE_ROOT", path.Base(e.Root)}}
	for _, x := range e.Extensions {
		list = append(list, [2]string{"PORTABLE_EXTENSION", path.Base(x)})
	}
	return list
}

type eventKind struct{ id, verb string }

var (
	attached = eventKind{"187c62eb1e7f463bb530394f52cb090f", "attached"}
	detached = eventKind{"76c5c754d628490d8ecba4c9d042112b", "detached"}
)

func (k eventKind) event(m Marker) Event {
	return Event{k.id, "Successfully " + k.verb + " '" + m[0] + "'", m[0], m[1:]}
}
