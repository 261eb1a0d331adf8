package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// Options say where a [Mapper] finds things. Empty fields mean the usual places.
type Options struct {
	Dev   string   // /dev
	Udev  string   // /run/udev
	Sys   string   // /sys
	Proc  string   // /proc
	Rules []string // folders with udev's rules

	NoKeyring   bool          // hand the key over within the table, readable for root afterwards
	UdevTimeout time.Duration // how long udev may take for one event, 60 s
	BusyTimeout time.Duration // how long a device that is just being probed may stay open, 5 s
	Log         *slog.Logger  // hears of slow or missing udev; none by default
}

// Mapper makes and removes dm-crypt mappings. It holds no state: it is safe for
// concurrent use, and several may exist. It needs CAP_SYS_ADMIN, and CAP_MKNOD
// where no udev makes the nodes.
type Mapper struct{ o Options }

// New returns a Mapper. It touches nothing yet.
func New(o Options) *Mapper {
	o.Dev = cmp.Or(o.Dev, "/dev")
	o.Udev = cmp.Or(o.Udev, "/run/udev")
	o.Sys = cmp.Or(o.Sys, "/sys")
	o.Proc = cmp.Or(o.Proc, "/proc")
	if o.Rules == nil {
		o.Rules = []string{"/usr/lib/udev/rules.d", "/lib/udev/rules.d", "/etc/udev/rules.d", "/run/udev/rules.d"}
	}
	o.UdevTimeout = cmp.Or(o.UdevTimeout, 60*time.Second)
	o.BusyTimeout = cmp.Or(o.BusyTimeout, 5*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Mapper{o}
}

// Map makes the mapping and returns once its node below /dev/mapper can be
// opened. The volume key passes through the kernel's keyring and is gone from
// there on return; kernels older than 4.15 or so get it in the table. The caller
// keeps and wipes key. On a read-only data device the mapping is read-only, too.
//
// Errors wrap [ErrExists], [ErrBusy], [ErrUnsupported], [ErrBadName], or what
// opening the data device gave. After an error, a cancelled context included,
// nothing is left behind.
func (m *Mapper) Map(ctx context.Context, name string, t luks2.Table, key *secret.Bytes) error {
	if err := m.makeMapping(ctx, name, t, key); err != nil {
		return fmt.Errorf("mapping %s: %w", name, err)
	}
	return nil
}

func (m *Mapper) makeMapping(ctx context.Context, name string, t luks2.Table, key *secret.Bytes) error {
	node, err := NodeName(name)
	if err != nil {
		return err
	}
	if err := checkTable(t, key); err != nil {
		return err
	}
	data, err := openData(t.Device)
	if err != nil {
		return fmt.Errorf("opening data device %s: %w", t.Device, err)
	}
	defer data.Close()
	if ro, err := ReadOnly(data); err != nil {
		return err
	} else if ro && !t.ReadOnly {
		m.o.Log.Warn("the data device is read-only, so is the volume", "device", t.Device)
		t.ReadOnly = true
	}
	ctl, err := m.openControl()
	if err != nil {
		return err
	}
	defer ctl.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	// The key hangs off the thread, so all of this happens on one.
	return onOwnThread(func() error {
		a := activation{m: m, ctl: ctl, node: node, table: t, key: key, data: data}
		return a.run(ctx)
	})
}

// Mapped returns the UUID of the mapping, "" when there is none of that name.
// UUIDs longer than 128 bytes were cut to that when the mapping was made, and
// \xNN in one is read as the character that it stands for.
func (m *Mapper) Mapped(_ context.Context, name string) (uuid string, err error) {
	reply, err := m.status(name)
	if errors.Is(err, unix.ENXIO) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking up mapping %s: %w", name, err)
	}
	return unmangle(reply.uuid), nil
}

func (m *Mapper) status(name string) (message, error) {
	node, err := NodeName(name)
	if err != nil {
		return message{}, err
	}
	ctl, err := m.openControl()
	if err != nil {
		return message{}, err
	}
	defer ctl.Close()
	return ctl.call(unix.DM_DEV_STATUS, message{name: node})
}

// Unmap removes the mapping and its node. Somebody who only probes the device
// is waited for; a mounted or otherwise used one gives [ErrBusy] with the user
// named. Without such a mapping the error wraps [ErrNotFound], and mappings that
// are no encrypted volumes, those of LVM for one, are left alone.
func (m *Mapper) Unmap(ctx context.Context, name string) error {
	if err := m.removeMapping(ctx, name); err != nil {
		return fmt.Errorf("unmapping %s: %w", name, err)
	}
	return nil
}

func (m *Mapper) removeMapping(ctx context.Context, name string) error {
	node, err := NodeName(name)
	if err != nil {
		return err
	}
	ctl, err := m.openControl()
	if err != nil {
		return err
	}
	defer ctl.Close()
	status, err := ctl.call(unix.DM_DEV_STATUS, message{name: node})
	if errors.Is(err, unix.ENXIO) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(status.uuid, "CRYPT-") {
		return errors.New("it is a mapping, but no encrypted volume")
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.remove(ctx, ctl, message{name: node}, node)
}
