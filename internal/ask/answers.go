package ask

import (
	"bytes"
	"fmt"

	"github.com/lockport/lockport/secret"
)

// maxAnswers bounds how many alternatives one source can bring: each takes
// locked memory, and each wrong one takes a key derivation.
const maxAnswers = 64

// split reads a list of secrets that are separated by NUL bytes; one more may
// end it. Duplicates are dropped. An empty list has no secrets, while a single
// NUL is one empty secret. It leaves list as it is; the caller wipes the result.
func split(list []byte) ([]*secret.Bytes, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var secrets []*secret.Bytes
	for item := range bytes.SplitSeq(bytes.TrimSuffix(list, []byte{0}), []byte{0}) {
		s := secret.Copy(item)
		switch {
		case contains(secrets, s):
			s.Wipe()
		case len(secrets) == maxAnswers:
			s.Wipe()
			secret.WipeAll(secrets)
			return nil, fmt.Errorf("more than %d alternatives", maxAnswers)
		default:
			secrets = append(secrets, s)
		}
	}
	return secrets, nil
}

// join is the reverse of split, without a NUL at the end. It leaves out what
// can't be joined because it holds a NUL. The caller wipes the result and keeps
// the secrets.
func join(secrets []*secret.Bytes) *secret.Bytes {
	size := 0
	for _, s := range secrets {
		size += s.Len() + 1
	}
	joined := secret.New(size)
	list := joined.Reveal()
	n := 0
	for _, s := range secrets {
		if bytes.IndexByte(s.Reveal(), 0) < 0 {
			n += copy(list[n:], s.Reveal()) + 1
		}
	}
	joined.Shrink(max(n-1, 0))
	return joined
}

func contains(list []*secret.Bytes, s *secret.Bytes) bool {
	for _, other := range list {
		if other.Equal(s) {
			return true
		}
	}
	return false
}
