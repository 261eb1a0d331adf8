package tpm2

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/tpm2/eventlog"
	"github.com/lockport/lockport/tpm2/tpm2test"
)

func hashes() map[string]func() hash.Hash {
	return map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}
}

// keyed is what a bank is told of a volume, by the definition.
func keyed(bankName, word string, key []byte) []byte {
	m := hmac.New(hashes()[bankName], key)
	m.Write([]byte(word))
	return m.Sum(nil)
}

// extended is what a PCR holds after zeros and digests.
func extended(bankName string, digests ...[]byte) []byte {
	h := hashes()[bankName]
	v := make([]byte, h().Size())
	for _, d := range digests {
		s := h()
		s.Write(v)
		s.Write(d)
		v = s.Sum(nil)
	}
	return v
}

const measureLog = "run/log/systemd/tpm2-measure.log"

// TestMeasure measures volume keys: into all banks, and into some.
func TestMeasure(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	raw := []byte("0123456789abcdef0123456789abcdef")
	key := secret.Copy(raw)
	defer key.Wipe()
	root := t.TempDir()
	putFile(t, filepath.Join(root, "proc/sys/kernel/random/boot_id"), []byte("0b5c1c3e-6b1c-4a11-9d7e-1f2e3d4c5b6a\n"))
	all := []string{"sha1", "sha256", "sha384", "sha512"}
	const uuid = "1f2e3d4c-6b1c-4a11-9d7e-0b5c1c3e5b6a"
	told := map[string]map[int][][]byte{}
	words := []string{}
	for i, c := range []struct {
		m    Measurement
		word string
		into []string
	}{
		{Measurement{PCR: 15, Volume: "root", UUID: uuid}, "cryptsetup:root:" + uuid, all},
		{Measurement{PCR: 15, Volume: "root", UUID: uuid, Banks: []string{"sha256"}}, "cryptsetup:root:" + uuid, []string{"sha256"}},
		{Measurement{PCR: 15, Volume: "x", UUID: uuid, Banks: []string{"sha384", "sha1", "sha384"}}, "cryptsetup:x:" + uuid, []string{"sha384", "sha1"}},
		{Measurement{PCR: 23, Volume: `a:b\c` + "\x7f\n\x00 d", UUID: uuid}, `cryptsetup:a\x3ab\x5cc\x7f\x0a\x00 d:` + uuid, all},
		{Measurement{PCR: 11, Volume: "größe", UUID: uuid}, `cryptsetup:gr\xc3\xb6\xc3\x9fe:` + uuid, all},
		{Measurement{PCR: 12}, "cryptsetup::", all},
	} {
		c.m.Key, c.m.Root = key, root
		tap := &tpm2test.Tap{Device: tpm}
		if err := Measure(t.Context(), tap, c.m); err != nil {
			t.Fatal(i, err)
		}
		if bytes.Contains(tap.Bytes(), raw[:16]) || len(tap.Codes()) != 2 {
			t.Errorf("%d: commands %x, or the key crossed the bus", i, tap.Codes())
		}
		words = append(words, c.word)
		for _, b := range c.into {
			if told[b] == nil {
				told[b] = map[int][][]byte{}
			}
			told[b][c.m.PCR] = append(told[b][c.m.PCR], keyed(b, c.word, raw))
		}
		for _, b := range all {
			values, err := ReadPCRs(t.Context(), tpm, b, []int{11, 12, 15, 23})
			if err != nil {
				t.Fatal(err)
			}
			for n, v := range values {
				if want := extended(b, told[b][n]...); !bytes.Equal(v, want) {
					t.Errorf("%d: bank %s, PCR %d: %x, want %x", i, b, n, v, want)
				}
			}
		}
	}
	text := mustRead(t, filepath.Join(root, measureLog))
	events, err := eventlog.ParseSystemd(text)
	if err != nil || len(events) != len(words) {
		t.Fatalf("%d events, %v\n%s", len(events), err, text)
	}
	for i, e := range events {
		if string(e.Data) != words[i] || e.Kind != "volume-key" || !e.System {
			t.Errorf("event %+v, want %s", e, words[i])
		}
	}
	for _, b := range all {
		for n, v := range (&eventlog.Log{Events: events}).Replay(b) {
			if want := extended(b, told[b][n]...); !bytes.Equal(v, want) {
				t.Errorf("replayed bank %s, PCR %d: %x, want %x", b, n, v, want)
			}
		}
	}
	checkRecords(t, text, len(words))
}

// checkRecords looks at the records as systemd frames them: 0x1e JSON newline.
func checkRecords(t *testing.T, text []byte, n int) {
	t.Helper()
	records := bytes.Split(text, []byte{0x1e})
	if len(records) != n+1 || len(records[0]) != 0 {
		t.Fatalf("%q", text)
	}
	last := 0.0
	for _, r := range records[1:] {
		var m struct {
			Digests []map[string]string
			Type    string `json:"content_type"`
			Content map[string]any
		}
		if err := json.Unmarshal(r, &m); err != nil || r[len(r)-1] != '\n' || bytes.Count(r, []byte{'\n'}) != 1 || m.Type != "systemd" ||
			m.Content["bootId"] != "0b5c1c3e6b1c4a119d7e1f2e3d4c5b6a" || m.Content["eventType"] != "volume-key" {
			t.Errorf("%s: %v", r, err)
		}
		since, ok := m.Content["timestamp"].(float64)
		if !ok || since < last || since <= 0 {
			t.Errorf("timestamp %v after %v", m.Content["timestamp"], last)
		}
		last = since
	}
}

// TestMeasureRefused measures nothing, and says why.
func TestMeasureRefused(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	key := secret.Copy([]byte("k"))
	defer key.Wipe()
	// banks answers with PCRs of these banks.
	having := func(algs ...uint16) Device {
		body := put32([]byte{0}, capPCRs, uint32(len(algs)))
		for _, alg := range algs {
			body = append(put16(body, alg), 3, 0xff, 0xff, 0xff)
		}
		return tpm2test.Func(func(command []byte) ([]byte, error) {
			if tpm2test.Code(command) != ccGetCapability {
				return tpm.Send(command)
			}
			return append(put32(put16(nil, tagNoSessions), uint32(headerSize+len(body)), 0), body...), nil
		})
	}
	for _, c := range []struct {
		name string
		dev  Device
		m    Measurement
		is   error
		want string
	}{
		{"no such bank", tpm, Measurement{PCR: 15, Banks: []string{"sha256", "md5"}}, luks2.ErrUnsupported, `"md5"`},
		{"bank that is not there", having(algSHA1), Measurement{PCR: 15, Banks: []string{"sha1", "sha256"}}, ErrBank, "sha256"},
		{"PCR that is not there", tpm, Measurement{PCR: 24}, nil, "in no bank"},
		{"PCR that is not there in the bank", tpm, Measurement{PCR: 24, Banks: []string{"sha256"}}, ErrBank, "sha256"},
		{"no banks", having(), Measurement{PCR: 15}, nil, "in no bank"},
		{"bank of an algorithm that is not known", having(algSHA256, 0x12), Measurement{PCR: 15}, nil, "0x12"},
		{"refused", tpm2test.Func(func(command []byte) ([]byte, error) {
			if tpm2test.Code(command) == ccPCRExtend {
				return tpm2test.Refusal(0x907), nil // locality
			}
			return tpm.Send(command)
		}), Measurement{PCR: 15}, rcError{ccPCRExtend, 0x907}, "PCR_Extend"},
	} {
		c.m.Key, c.m.Root = key, t.TempDir()
		err := Measure(t.Context(), c.dev, c.m)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if _, err := os.Stat(filepath.Join(c.m.Root, measureLog)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it is in the log: %v", c.name, err)
		}
	}
	for _, b := range []string{"sha1", "sha256", "sha384", "sha512"} {
		if v, err := ReadPCRs(t.Context(), tpm, b, []int{15}); err != nil || !bytes.Equal(v[15], extended(b)) {
			t.Errorf("bank %s was extended: %x, %v", b, v, err)
		}
	}
	// A log that can't be written is told of, after the fact.
	root := t.TempDir()
	putFile(t, filepath.Join(root, "run/log"), nil)
	err := Measure(t.Context(), tpm, Measurement{PCR: 15, Key: key, Root: root})
	if v, bad := ReadPCRs(t.Context(), tpm, "sha256", []int{15}); err == nil || !strings.Contains(err.Error(), "measured, but not logged") ||
		bad != nil || bytes.Equal(v[15], extended("sha256")) {
		t.Errorf("no log: %v, %x, %v", err, v, bad)
	}
	// Nor is a link followed.
	root = t.TempDir()
	aim := filepath.Join(root, "aim")
	putFile(t, aim, nil)
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "run/log/systemd"), 0o755), os.Symlink(aim, filepath.Join(root, measureLog))); err != nil {
		t.Fatal(err)
	}
	if err := Measure(t.Context(), tpm, Measurement{PCR: 15, Key: key, Root: root}); err == nil || len(mustRead(t, aim)) > 0 {
		t.Errorf("through a link: %v", err)
	}
}

// TestMeasureBanks has a TPM that keeps the PCR in two of its banks.
func TestMeasureBanks(t *testing.T) {
	t.Parallel()
	tpm := tpm2test.Start(t, "")
	key := secret.Copy([]byte("k"))
	defer key.Wipe()
	bits := map[uint16]byte{algSHA1: 0x80, algSHA256: 0, algSHA384: 0xff, algSHA512: 0x7f}
	body := put32([]byte{0}, capPCRs, uint32(len(bits)))
	for alg, b := range bits {
		body = append(put16(body, alg), 3, 0xff, b, 0xff)
	}
	dev := tpm2test.Func(func(command []byte) ([]byte, error) {
		if tpm2test.Code(command) == ccGetCapability {
			return append(put32(put16(nil, tagNoSessions), uint32(headerSize+len(body)), 0), body...), nil
		}
		return tpm.Send(command)
	})
	if err := Measure(t.Context(), dev, Measurement{PCR: 15, Key: key}); err != nil {
		t.Fatal(err)
	}
	var into []string
	for b := range hashes() {
		if v, err := ReadPCRs(t.Context(), tpm, b, []int{15}); err != nil || !bytes.Equal(v[15], extended(b)) {
			into = append(into, fmt.Sprint(b))
		}
	}
	slices.Sort(into)
	if !slices.Equal(into, []string{"sha1", "sha384"}) {
		t.Errorf("extended were %s", into)
	}
}
