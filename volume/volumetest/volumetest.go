// Package volumetest helps to test what unlocks volumes and makes keyslots.
package volumetest

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// Asker answers with texts, one after the other, and then with
// [volume.ErrNoAnswer]. With "+" a text is several answers at once. It is not safe
// for concurrent use.
type Asker struct {
	Answers []string
	From    volume.Source
	Asked   []volume.Question // what was asked so far
}

var _ volume.Asker = (*Asker)(nil)

// Ask answers with the next text.
func (a *Asker) Ask(_ context.Context, q volume.Question) (volume.Answer, error) {
	a.Asked = append(a.Asked, q)
	if len(a.Answers) == 0 {
		return volume.Answer{}, volume.ErrNoAnswer
	}
	var list []*secret.Bytes
	for text := range strings.SplitSeq(a.Answers[0], "+") {
		list = append(list, secret.Copy([]byte(text)))
	}
	a.Answers = a.Answers[1:]
	return volume.Answer{Secrets: list, From: a.From}, nil
}

// Reread fails unless what parse takes is written, read and written again as the
// same text, and what it refuses leaves no token.
func Reread[T any](t *testing.T, text []byte, parse func(json.RawMessage) (*T, error), write func(*T) ([]byte, error)) {
	t.Helper()
	token, err := parse(text)
	if err != nil {
		if token != nil {
			t.Error("a token comes with an error")
		}
		return
	}
	out, err := write(token)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(out)
	if err != nil {
		t.Fatalf("what is written is not read: %v\n%s", err, out)
	}
	if twice, err := write(again); err != nil || !bytes.Equal(twice, out) {
		t.Errorf("%v\n%s\n%s", err, out, twice)
	}
}
