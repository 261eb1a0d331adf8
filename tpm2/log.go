package tpm2

import (
	"encoding/hex"
	"encoding/json"
)

// logFile is where systemd writes down what it has measured, so that PCRs can
// be explained later.
const logFile = "run/log/systemd/tpm2-measure.log"

// logDigest is what went to a PCR in one bank.
type logDigest struct {
	bank string
	sum  []byte
}

// logRecord is a record of that log: TCG Canonical Event Log Format, in JSON,
// with content of systemd's own; systemd, src/shared/tpm2-util.c.
type logRecord struct {
	PCR     int             `json:"pcr"`
	Digests []logHash       `json:"digests"`
	Type    string          `json:"content_type"`
	Content logRecordDetail `json:"content"`
}

type logHash struct {
	Alg    string `json:"hashAlg"`
	Digest string `json:"digest"`
}

type logRecordDetail struct {
	Event     string `json:"eventType"`
	String    string `json:"string"`
	BootID    string `json:"bootId"`
	Timestamp uint64 `json:"timestamp"` // microseconds since the boot
}

// volumeKeyRecord returns the record of a measured volume key as it stands in the
// log: between a record separator and a newline.
func volumeKeyRecord(pcr int, word string, digests []logDigest, boot string, since uint64) ([]byte, error) {
	r := logRecord{PCR: pcr, Type: "systemd", Content: logRecordDetail{"volume-key", word, boot, since}}
	for _, d := range digests {
		r.Digests = append(r.Digests, logHash{d.bank, hex.EncodeToString(d.sum)})
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return append(append([]byte{0x1e}, text...), '\n'), nil
}
