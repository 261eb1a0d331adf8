package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/lockport/lockport/tpm2/tpm2test"
	"github.com/lockport/lockport/tpm2/uki/ukitest"
)

// newUKI makes a kernel image: new-uki FILE .NAME=CONTENT…, in which @FILE stands
// for what is in a file.
func newUKI() {
	var sections []ukitest.Section
	for _, arg := range os.Args[2:] {
		name, content, _ := strings.Cut(arg, "=")
		if path, ok := strings.CutPrefix(content, "@"); ok {
			text, err := os.ReadFile(path)
			mustWork(err)
			content = string(text)
		}
		sections = append(sections, ukitest.Section{Name: name, Content: content})
	}
	mustWork(os.WriteFile(os.Args[1], ukitest.Build(sections...), 0o600))
}

// withTPM runs a command while there is a TPM, into whose PCR 11 "event" has been
// measured: with-tpm COMMAND…
func withTPM() {
	dir, err := os.MkdirTemp("", "tpm")
	mustWork(err)
	socket := dir + "/s"
	server := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--flags", "not-need-init,startup-clear")
	mustWork(server.Start())
	mustWork(os.Setenv("SYSTEMD_TPM2_DEVICE", "swtpm:path="+socket))
	err = measureEvent()
	code := 1
	if err == nil {
		code = pass(exec.Command(os.Args[1], os.Args[2:]...), os.Stdout)
	}
	_ = server.Process.Kill()
	_ = server.Wait()
	mustWork(os.RemoveAll(dir))
	mustWork(err)
	os.Exit(code)
}

// measureEvent waits for the TPM and measures with it.
func measureEvent() error {
	const pcrEvent = 0x13c
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		dev, err := newApp("lockport").openTPM(ctx(), "auto")
		if err != nil && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			return err
		}
		defer closeTPM(dev)
		// PCR 11, the empty password, "event".
		response, err := dev.Send(tpm2test.Command(pcrEvent, []byte("\x00\x00\x00\x0b\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00\x00\x05event")))
		if err == nil && string(response[6:10]) != "\x00\x00\x00\x00" {
			err = fmt.Errorf("measuring: %x", response)
		}
		return err
	}
}
