package fido2

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
)

func sumOf(text string) []byte {
	s := sha256.Sum256([]byte(text))
	return s[:]
}

// answers is a device that gives answers by heart, one after the other.
type answers [][]byte

func (a *answers) Call(context.Context, []byte, func()) ([]byte, error) {
	if len(*a) == 0 {
		return []byte{byte(StatusInvalidCommand)}, nil
	}
	b := (*a)[0]
	*a = (*a)[1:]
	return b, nil
}

func answer(t testing.TB, members map[int]any) []byte {
	t.Helper()
	b, err := encoding.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0}, b...)
}

// TestOddAnswers has answers that make no sense.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	info := append([]byte{0}, unhex(t, realInfo)...)
	for _, c := range []struct {
		name string
		b    []byte
		err  error
	}{
		{"nothing", nil, ErrResponse},
		{"no body", []byte{0}, ErrResponse},
		{"a status", []byte{byte(StatusNotAllowed)}, StatusNotAllowed},
		{"too much", append(append([]byte{}, info...), 0), ErrResponse},
		{"cut off", info[:40], ErrResponse},
		{"a list", []byte{0, 0x80}, ErrResponse},
		{"a member twice", []byte{0, 0xa2, 1, 0x80, 1, 0x80}, ErrResponse},
		{"no length beforehand", []byte{0, 0xbf, 0xff}, ErrResponse},
		{"a length that lies", []byte{0, 0xa1, 1, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, ErrResponse},
		{"bytes that lie", []byte{0, 0xa1, 3, 0x5a, 0x7f, 0xff, 0xff, 0xff}, ErrResponse},
		{"too deep", append([]byte{0, 0xa1, 0x18, 99}, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x80), ErrResponse},
		{"only U2F", answer(t, map[int]any{1: []string{"U2F_V2"}, 3: make([]byte, 16)}), ErrNotFIDO2},
		{"no model", answer(t, map[int]any{1: []string{"FIDO_2_0"}}), ErrResponse},
	} {
		if _, err := Connect(t.Context(), &answers{c.b}); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := Connect(t.Context(), &answers{info}); err != nil {
		t.Error(err)
	}
}

// FuzzResponses feeds a device's answers to all that reads them.
func FuzzResponses(f *testing.F) {
	f.Add(unhex(f, realInfo), unhex(f, realMade))
	f.Add([]byte{0xa1, 1, 0xa0}, append(sumOf(RelyingParty), 0xc1, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, body, data []byte) {
		body = append([]byte{0}, body...)
		info := Info{MaxMessageSize: 1200, Options: map[string]bool{"clientPin": true, "pinUvAuthToken": true}}
		for _, do := range []func(d *Device) error{
			func(d *Device) error { _, _, err := d.PINRetries(t.Context()); return err },
			func(d *Device) error { a, err := d.agree(t.Context()); a.wipe(); return err },
			func(d *Device) error {
				_, err := d.makeCredential(t.Context(), CredentialOptions{RP: RelyingParty}, nil, false)
				return err
			},
			func(d *Device) error { _, _, err := d.has(t.Context(), RelyingParty, []byte{1}); return err },
			func(d *Device) error { _, err := Connect(t.Context(), d.conn); return err },
		} {
			_ = do(&Device{conn: &answers{body, body}, Info: info})
		}
		if len(data) > 32 {
			copy(data, sumOf(RelyingParty))
			if d, err := parseAuthData(data, RelyingParty); (err == nil) == (d == nil) {
				t.Errorf("%v, %v", d, err)
			}
		}
	})
}
