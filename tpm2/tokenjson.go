package tpm2

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxField is the most that one member holds, in bytes.
const maxField = 64 << 10

func decodeBase64(s string) ([]byte, error) {
	if len(s) > base64.StdEncoding.EncodedLen(maxField) {
		return nil, errors.New("too long")
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

func readType(v json.RawMessage) error {
	var s string
	return errors.Join(json.Unmarshal(v, &s), mustBe(s == TokenType, "is not "+TokenType))
}

// readKeyslots refuses what systemd would pass over: it wants one keyslot in a
// token. None is what a token has before it is written.
func readKeyslots(v json.RawMessage) error {
	var list []string
	return errors.Join(json.Unmarshal(v, &list), mustBe(len(list) <= 1, "names more than one keyslot"))
}

func mustBe(ok bool, text string) error {
	if ok {
		return nil
	}
	return errors.New(text)
}

// plain reads a member as it is; null is refused, which json would pass over.
func plain[T any](to *T) func(json.RawMessage) error {
	return func(v json.RawMessage) error {
		if string(v) == "null" {
			return errors.New("is null")
		}
		return json.Unmarshal(v, to)
	}
}

// number reads an integer from 1 to limit and hands it on.
func number(to *uint64, limit uint64, set func(uint64)) func(json.RawMessage) error {
	return func(v json.RawMessage) error {
		if err := plain(to)(v); err != nil {
			return err
		}
		set(*to)
		return mustBe(*to > 0 && *to <= limit, fmt.Sprintf("is not from 1 to %d", limit))
	}
}

// name reads one of the names, in any case.
func name(to *string, names ...string) func(json.RawMessage) error {
	return func(v json.RawMessage) error {
		if err := plain(to)(v); err != nil {
			return err
		}
		*to = strings.ToLower(*to)
		return mustBe(slices.Contains(names, *to), "is none of "+strings.Join(names, ", "))
	}
}

// bytesOf reads base64.
func bytesOf(to *[]byte) func(json.RawMessage) error {
	return func(v json.RawMessage) error {
		var s string
		err := plain(&s)(v)
		if err == nil {
			*to, err = decodeBase64(s)
		}
		return err
	}
}

// shards reads one text or a list of them.
func shards(to *[][]byte, decode func(string) ([]byte, error)) func(json.RawMessage) error {
	return func(v json.RawMessage) error {
		texts := []string{""}
		var err error
		if bytes.HasPrefix(v, []byte("[")) {
			err = json.Unmarshal(v, &texts)
		} else {
			err = plain(&texts[0])(v)
		}
		if err != nil {
			return err
		}
		if len(texts) == 0 || len(texts) > maxShards {
			return fmt.Errorf("%d shards", len(texts))
		}
		for _, text := range texts {
			b, err := decode(text)
			if err != nil {
				return err
			}
			*to = append(*to, b)
		}
		return nil
	}
}

// pcrs reads a list of different PCR numbers and sorts it.
func pcrs(to *[]int) func(json.RawMessage) error {
	return func(v json.RawMessage) error {
		list := []int{}
		if err := plain(&list)(v); err != nil {
			return err
		}
		*to = list
		return checkPCRs(list)
	}
}

// checkPCRs sorts a list of PCR numbers and refuses odd ones.
func checkPCRs(list []int) error {
	slices.Sort(list)
	for i, n := range list {
		if n < 0 || n > maxPCR {
			return fmt.Errorf("there is no PCR %d", n)
		}
		if i > 0 && n == list[i-1] {
			return fmt.Errorf("PCR %d is given twice", n)
		}
	}
	return nil
}

// tokenText is a token as systemd 257 writes it, member by member.
type tokenText struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"` // filled in by whoever writes the header
	Blob       any      `json:"tpm2-blob"`
	PCRs       []int    `json:"tpm2-pcrs"`
	Bank       string   `json:"tpm2-pcr-bank,omitempty"`
	PrimaryAlg string   `json:"tpm2-primary-alg,omitempty"`
	PolicyHash any      `json:"tpm2-policy-hash"`
	PIN        bool     `json:"tpm2-pin,omitempty"`
	PCRLock    bool     `json:"tpm2_pcrlock,omitempty"`
	SignedPCRs []int    `json:"tpm2_pubkey_pcrs,omitempty"`
	PublicKey  []byte   `json:"tpm2_pubkey,omitempty"`
	PolicyRef  *string  `json:"tpm2_pubkey_ref,omitempty"`
	Salt       []byte   `json:"tpm2_salt,omitempty"`
	Memory     uint64   `json:"tpm2_argon2id_memcost,omitempty"`
	Iterations uint32   `json:"tpm2_argon2id_iterations,omitempty"`
	Lanes      uint32   `json:"tpm2_argon2id_lanes,omitempty"`
	SRK        []byte   `json:"tpm2_srk,omitempty"`
	PCRLockNV  []byte   `json:"tpm2_pcrlock_nv,omitempty"`

	Record json.RawMessage `json:"lockport,omitempty"`
}

// MarshalJSON writes the token as systemd 257 does. "keyslots" is empty.
func (t *Token) MarshalJSON() ([]byte, error) {
	text := tokenText{Type: TokenType, Keyslots: []string{}, PCRs: t.PCRs, Bank: t.Bank, PrimaryAlg: t.PrimaryAlg,
		PIN: t.PIN, PCRLock: t.PCRLock, SignedPCRs: t.SignedPCRs, PublicKey: t.PublicKey, PolicyRef: t.PolicyRef,
		Salt: t.Salt, SRK: t.SRK, PCRLockNV: t.PCRLockNV, Record: t.Record.marshal()}
	text.Blob = scalarOrList(t.Blobs, base64.StdEncoding.EncodeToString)
	text.PolicyHash = scalarOrList(t.Policies, hex.EncodeToString)
	if t.PCRs == nil {
		text.PCRs = []int{}
	}
	if a := t.Argon2; a != nil {
		text.Memory, text.Iterations, text.Lanes = a.Memory, a.Iterations, a.Lanes
	}
	return json.Marshal(text)
}

func scalarOrList(shards [][]byte, encode func([]byte) string) any {
	texts := make([]string, 0, len(shards))
	for _, s := range shards {
		texts = append(texts, encode(s))
	}
	if len(texts) == 1 {
		return texts[0]
	}
	return texts
}
