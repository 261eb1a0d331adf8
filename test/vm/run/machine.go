//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	spareDisks = 6         // lent to the tests as /dev/disk/by-id/virtio-spareN
	keptDisks  = 2         // the same as virtio-keptN, for tests that span boots
	spareSize  = 256 << 20 // bytes each; sparse

	// bootBound is several times the boot under emulation on a busy host.
	bootBound = 6 * time.Minute
)

// machine is the guest. What is on its spare disks and in its TPM outlives a
// boot; its root disk is a new one each time.
type machine struct {
	disk  string // folder with disk.img, vmlinuz, initrd.img
	dir   string // folder of this run, removed after it
	share share
	accel string
	keep  bool

	boot    int   // which boot it is, from 1
	printed int64 // how much of the tests' output is on standard output
}

// console is the file that gets what the guest's kernel prints, of all boots.
func (m *machine) console() string { return filepath.Join(m.dir, "console") }

// shell is the socket of the kept machine's shell.
func (m *machine) shell() string { return filepath.Join(m.dir, "shell") }

// command is an external program that ends with ctx: asked first, killed after
// ten seconds. It also ends when this process is killed.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run boots the guest, prints what its tests print, and returns when it is off.
func (m *machine) run(ctx context.Context) error {
	tpmCtx, endTPM := context.WithCancel(ctx)
	tpm, err := m.startTPM(tpmCtx)
	if err != nil {
		endTPM()
		return err
	}
	defer func() {
		endTPM()
		_ = tpm.Wait() // ended by us, or by qemu's going away
	}()
	args, err := m.qemuArgs()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	qemu := command(ctx, "qemu-system-x86_64", args...)
	qemu.Stdout, qemu.Stderr = os.Stderr, os.Stderr
	if err := qemu.Start(); err != nil {
		return err
	}
	say("boot %d, process %d", m.boot, qemu.Process.Pid)
	off := make(chan struct{})
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		m.follow(off, cancel)
	}()
	err = qemu.Wait()
	close(off)
	<-followed
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}

// startTPM starts the software TPM, a fresh one at the first boot, and waits
// until it can be reached.
func (m *machine) startTPM(ctx context.Context) (*exec.Cmd, error) {
	state := filepath.Join(m.dir, "tpm")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(m.tpmSocket()); err != nil {
		return nil, err
	}
	tpm := command(ctx, "swtpm", "socket", "--tpm2", "--terminate",
		"--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+m.tpmSocket())
	tpm.Stdout, tpm.Stderr = os.Stderr, os.Stderr
	if err := tpm.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(m.tpmSocket()); err == nil {
			return tpm, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			_ = tpm.Cancel()
			return nil, errors.Join(errors.New("swtpm offers no control socket"), tpm.Wait())
		}
	}
}

func (m *machine) tpmSocket() string { return filepath.Join(m.dir, "tpm.sock") }

// qemuArgs describes the machine, and makes the files behind its spare disks
// that are not there yet.
func (m *machine) qemuArgs() ([]string, error) {
	args := []string{
		"-accel", m.accel, "-cpu", "max", "-smp", "2", "-m", "3072",
		"-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot",
		"-kernel", filepath.Join(m.disk, "vmlinuz"), "-initrd", filepath.Join(m.disk, "initrd.img"),
		"-append", "root=LABEL=machine rw console=ttyS0 panic=-1 mitigations=off systemd.getty_auto=no systemd.show_status=error" +
			" modprobe.blacklist=kvm_amd,powernow_k8,pcspkr,ata_piix,ata_generic,psmouse,floppy,i2c_piix4",
		"-chardev", "file,id=console,path=" + m.console() + ",append=on", "-serial", "chardev:console",
		"-drive", "file=" + filepath.Join(m.disk, "disk.img") + ",format=raw,if=none,id=root,snapshot=on,cache=unsafe",
		"-device", "virtio-blk-pci,drive=root",
		"-virtfs", "local,path=" + string(m.share) + ",mount_tag=share,security_model=none,multidevs=remap",
		"-device", "virtio-rng-pci",
		"-chardev", "socket,id=tpm,path=" + m.tpmSocket(), "-tpmdev", "emulator,id=tpm0,chardev=tpm",
		"-device", "tpm-tis,tpmdev=tpm0",
		"-chardev", "socket,id=shell,path=" + m.shell() + ",server=on,wait=off",
		"-device", "virtio-serial-pci", "-device", "virtconsole,chardev=shell",
	}
	if m.boot > 1 {
		// The firmware measures this into PCR 1, so that it is not the one of the first boot.
		args = append(args, "-smbios", "type=1,serial=changed")
	}
	var names []string
	for i := range spareDisks {
		names = append(names, "spare"+strconv.Itoa(i))
	}
	for i := range keptDisks {
		names = append(names, "kept"+strconv.Itoa(i))
	}
	for _, name := range names {
		file := filepath.Join(m.dir, name)
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = errors.Join(f.Truncate(spareSize), f.Close())
		if err != nil {
			return nil, err
		}
		args = append(args,
			"-drive", "if=none,id="+name+",file="+file+",format=raw,cache=unsafe,discard=unmap",
			"-device", "virtio-blk-pci,drive="+name+",serial="+name)
	}
	return args, nil
}
