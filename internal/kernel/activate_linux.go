package kernel

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// onOwnThread runs f on a system thread that ends with it, and with the thread
// its keyring.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: this ends the thread
		done <- f()
	}()
	return <-done
}

// checkTable refuses what would change the meaning of the parameter text.
func checkTable(t luks2.Table, key *secret.Bytes) error {
	if key.Len() != t.KeySize || t.KeySize == 0 {
		return fmt.Errorf("volume key has %d bytes, the table says %d", key.Len(), t.KeySize)
	}
	if t.Length == 0 {
		return errors.New("mapping is empty")
	}
	for _, word := range append([]string{t.Cipher, t.KeyDescription}, t.Options...) {
		if word == "" || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
			return fmt.Errorf("unusable word %q in the table", word)
		}
	}
	return nil
}

// openData opens the data device. It is not opened for writing: closing that
// would make udev probe the device once more.
func openData(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	if info, err := f.Stat(); err != nil || info.Mode().Type() != os.ModeDevice {
		f.Close()
		if err != nil {
			return nil, bare(err)
		}
		return nil, errors.New("not a block device")
	}
	return f, nil
}

// bare returns the reason within an error that repeats the path.
func bare(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// activation makes one mapping; all its steps run on one thread.
type activation struct {
	m     *Mapper
	ctl   control
	node  string
	table luks2.Table
	key   *secret.Bytes
	data  *os.File

	dev uint64 // of the new mapping
}

func (a *activation) run(ctx context.Context) (err error) {
	uuid, err := mappingUUID(a.table.UUID)
	if err != nil {
		return err
	}
	ringed, err := a.fitKernel()
	if err != nil {
		return err
	}
	if err := a.create(uuid); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.undo(ctx))
		}
	}()
	if err := a.checkFree(); err != nil {
		return a.explain(err)
	}
	if err := a.load(ringed); err != nil {
		return a.explain(err)
	}
	return a.resume(ctx)
}

// checkFree refuses a data device that is mounted or mapped already, as
// libcryptsetup does: device-mapper itself lets mappings share a device, and
// two of them over the same data would each have a cache of their own.
func (a *activation) checkFree() error {
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", a.data.Fd()), os.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return bare(err)
	}
	return f.Close()
}

// fitKernel asks how able the kernel's dm-crypt is, drops options that it does
// not know and decides how the key gets there: through the keyring where
// dm-crypt can, by the rule of libcryptsetup.
func (a *activation) fitKernel() (ringed bool, err error) {
	v, known, err := a.ctl.cryptVersion()
	if err != nil || !known {
		return !a.m.o.NoKeyring, err
	}
	options, dropped, err := v.fit(a.table.Options)
	if err != nil {
		return false, err
	}
	if len(dropped) > 0 {
		a.m.o.Log.Warn("dm-crypt of this kernel does without options", "options", dropped)
	}
	a.table.Options = options
	return v.keyring() && !a.m.o.NoKeyring, nil
}

func (a *activation) create(uuid string) error {
	reply, err := a.ctl.call(unix.DM_DEV_CREATE, message{name: a.node, uuid: uuid})
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("volume is %w", ErrExists)
	}
	if err != nil {
		return fmt.Errorf("making the device: %w", err)
	}
	a.dev = reply.dev
	return nil
}

// undo removes the device after a later step went wrong, even when that was
// the context's end.
func (a *activation) undo(ctx context.Context) error {
	err := a.m.remove(context.WithoutCancel(ctx), a.ctl, message{dev: a.dev}, a.node)
	if err != nil {
		return fmt.Errorf("removing the unfinished mapping: %w", err)
	}
	return nil
}

// load gives the kernel its table. A kernel without keyrings, or one that told
// no version and takes no key from them, gets the key in the table.
func (a *activation) load(ringed bool) error {
	if !ringed {
		return a.loadWithKey()
	}
	err := a.loadFromKeyring()
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENODEV) && errors.Is(err, errKeyring) {
		return a.loadWithKey()
	}
	if errors.Is(err, unix.EINVAL) {
		v, known, verr := a.ctl.cryptVersion()
		if verr == nil && known && !v.keyring() {
			return a.loadWithKey()
		}
	}
	return err
}

// errKeyring marks errors that come from the keyring and not from dm-crypt.
var errKeyring = errors.New("lending the key to the kernel")

func (a *activation) loadFromKeyring() error {
	id, err := unix.AddKey("logon", a.table.KeyDescription, a.key.Reveal(), unix.KEY_SPEC_THREAD_KEYRING)
	if err != nil {
		return fmt.Errorf("%w: %w", errKeyring, err)
	}
	// dm-crypt copies the key while it loads the table.
	defer func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_THREAD_KEYRING, 0, 0) }()
	params := []byte(a.table.Params(a.table.KeyringKey(), a.dataNumber()))
	return a.loadTable(make([]byte, tableSize(len(params))), params)
}

// loadWithKey builds the whole message in secret memory.
func (a *activation) loadWithKey() error {
	params := a.table.Params("", a.dataNumber())
	before := len(a.table.Cipher) + 1
	buf := secret.New(tableSize(len(params) + 2*a.key.Len()))
	defer buf.Wipe()
	digits := secret.New(2 * a.key.Len())
	defer digits.Wipe()
	hex.Encode(digits.Reveal(), a.key.Reveal())
	return a.loadTable(buf.Reveal(), []byte(params[:before]), digits.Reveal(), []byte(params[before:]))
}

func (a *activation) loadTable(buf []byte, params ...[]byte) error {
	m := message{dev: a.dev, targets: 1, flags: flagSecure}
	if a.table.ReadOnly {
		m.flags |= flagReadOnly
	}
	putTarget(buf, "crypt", a.table.Length, params...)
	m.put(buf)
	_, err := a.ctl.send(unix.DM_TABLE_LOAD, buf)
	return err
}

func (a *activation) dataNumber() string {
	major, minor, err := DeviceNumber(a.data)
	if err != nil {
		return "0:0" // it was a device when it was opened; the kernel refuses this one
	}
	return number(major, minor)
}

// resume lets the mapping go to work and waits until its node is there.
func (a *activation) resume(ctx context.Context) error {
	wait := a.m.newCookie()
	defer wait.drop()
	reply, err := a.ctl.call(unix.DM_DEV_SUSPEND, message{dev: a.dev, event: event(wait.cookie)})
	if err != nil {
		return fmt.Errorf("starting the mapping: %w", err)
	}
	a.keepReadAhead()
	if err := wait.done(ctx, reply.flags&flagUevent != 0); err != nil {
		return err
	}
	return a.m.ensureNode(a.node, a.dev, wait.cookie != 0)
}

// explain says what an error number of the table's loading means.
func (a *activation) explain(err error) error {
	device := a.table.Device
	switch {
	case errors.Is(err, errKeyring):
		return err
	case errors.Is(err, unix.EBUSY):
		major, minor, _ := DeviceNumber(a.data)
		return fmt.Errorf("data device %s is %w%s", device, ErrBusy, because(a.m.users(major, minor, device)))
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("cipher %s is %w", a.table.Cipher, ErrUnsupported)
	case errors.Is(err, unix.EINVAL):
		end := (a.table.DataOffset + a.table.Length) * 512
		if size, sizeErr := Size(a.data); sizeErr == nil && uint64(size) < end {
			return fmt.Errorf("data device %s has %d bytes, the volume ends at %d", device, size, end)
		}
		return fmt.Errorf("the kernel refuses the table, its log says why: %w", err)
	}
	return fmt.Errorf("loading the table: %w", err)
}
