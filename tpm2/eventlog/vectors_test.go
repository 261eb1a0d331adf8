package eventlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the events of the vectors are in words")

const vectorDir = "../../testdata/vectors/eventlog"

// Logs of real boots; testdata/vectors/eventlog/README.md says how they were made.
var vectorNames = []string{"seabios", "seabios-tpm12", "ovmf-uki", "ovmf-secureboot"}

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// machine makes a root folder with the logs of a vector, and returns it.
func machine(t testing.TB, name string) string {
	t.Helper()
	root := t.TempDir()
	put(t, root, firmwarePath, vector(t, name+".bin"))
	if b, err := os.ReadFile(filepath.Join(vectorDir, name+".measure.log")); err == nil {
		put(t, root, systemdPath, b)
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return root
}

func put(t testing.TB, root, path string, b []byte) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readVector(t testing.TB, name string) *Log {
	t.Helper()
	l, err := Read(machine(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pcrs returns what the TPM held in the same boot, by bank.
func pcrs(t testing.TB, name string) map[string]map[int]string {
	t.Helper()
	banks := map[string]map[int]string{}
	for line := range strings.Lines(string(vector(t, name+".pcrs"))) {
		f := strings.Fields(line)
		n, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		if banks[f[0]] == nil {
			banks[f[0]] = map[int]string{}
		}
		banks[f[0]][n] = f[2]
	}
	return banks
}

// The PCRs of the same boot are the judge: each must be what the log comes to,
// and zero if the log has nothing of it.
func TestReplayIsWhatTheTPMHas(t *testing.T) {
	t.Parallel()
	const ima = 10
	for _, name := range vectorNames {
		l := readVector(t, name)
		banks := pcrs(t, name)
		if len(l.Banks) != len(banks) {
			t.Errorf("%s: banks %q, the TPM has %d", name, l.Banks, len(banks))
		}
		for bank, want := range banks {
			got := l.Replay(bank)
			for n, value := range want {
				mine := hex.EncodeToString(got[n])
				if got[n] == nil {
					mine = strings.Repeat("0", len(value))
				}
				if n != ima && mine != value {
					t.Errorf("%s: PCR %d in bank %s: replayed %s, the TPM has %s", name, n, bank, mine, value)
				}
			}
			for n := range got {
				if want[n] == "" {
					t.Errorf("%s: PCR %d in bank %s was not read", name, n, bank)
				}
			}
		}
	}
}

func TestSecureBoot(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]bool{"seabios": {}, "seabios-tpm12": {}, "ovmf-uki": {false, true}, "ovmf-secureboot": {true, true}} {
		on, known := readVector(t, name).SecureBoot()
		if on != want[0] || known != want[1] {
			t.Errorf("%s: on %v, known %v", name, on, known)
		}
	}
}

func TestWordsOfRealLogs(t *testing.T) {
	t.Parallel()
	for _, name := range vectorNames {
		var got bytes.Buffer
		for _, e := range readVector(t, name).Events {
			fmt.Fprintf(&got, "%2d %v\n", e.PCR, e)
		}
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got.String()); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
}

func TestOfHasTheEventsOfOnePCR(t *testing.T) {
	t.Parallel()
	l := readVector(t, "ovmf-uki")
	var got []string
	for _, e := range l.Of(0) {
		got = append(got, e.Type.String())
	}
	want := []string{"EV_S_CRTM_VERSION", "EV_EFI_PLATFORM_FIRMWARE_BLOB", "EV_EFI_PLATFORM_FIRMWARE_BLOB", "EV_SEPARATOR"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if e := l.Of(15); len(e) != 1 || !e[0].System || e[0].Kind != "machine-id" {
		t.Errorf("%+v", e)
	}
}

// beginning tells whether part is shorter than all and has the same events.
func beginning(part, all []Event) bool {
	return len(part) < len(all) && slices.EqualFunc(part, all[:len(part)], func(a, b Event) bool { return reflect.DeepEqual(a, b) })
}

// Cut anywhere, a log is refused or is the beginning of the whole one.
func TestTruncated(t *testing.T) {
	t.Parallel()
	for _, name := range vectorNames {
		whole := vector(t, name+".bin")
		all, err := ParseFirmware(whole)
		if err != nil {
			t.Fatal(err)
		}
		good := 0
		for n := range whole {
			l, err := ParseFirmware(whole[:n])
			if err != nil {
				if l != nil {
					t.Fatalf("%s cut to %d bytes: a log comes with an error", name, n)
				}
				continue
			}
			good++
			if !beginning(l.Events, all.Events) {
				t.Fatalf("%s cut to %d bytes: %d events", name, n, len(l.Events))
			}
		}
		if good < len(all.Events) {
			t.Errorf("%s: %d ends of a log, but %d events", name, good, len(all.Events))
		}
	}
}

func TestTruncatedSystemd(t *testing.T) {
	t.Parallel()
	whole := vector(t, "ovmf-uki.measure.log")
	all, err := ParseSystemd(whole)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if events, err := ParseSystemd(whole[:n]); err == nil && n < len(whole)-1 && !beginning(events, all) || err != nil && events != nil {
			t.Errorf("cut to %d bytes: %d events, %v", n, len(events), err)
		}
	}
}

func TestZerosAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, name := range vectorNames {
		whole := vector(t, name+".bin")
		l, err := ParseFirmware(append(bytes.Clone(whole), make([]byte, 4096)...))
		all, _ := ParseFirmware(whole)
		if d := cmp.Diff(all, l); err != nil || d != "" {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
}
