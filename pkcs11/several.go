package pkcs11

import (
	"fmt"
	"slices"
	"strings"
)

// A severalError says what there is to choose from. It is [ErrSeveral].
type severalError struct {
	what string   // "private key"
	list []string // URIs
}

func (s *severalError) Error() string {
	const shown = 8
	list := slices.Sorted(slices.Values(s.list)) // modules have no order, and people like one
	if len(list) > shown {
		list = append(list[:shown:shown], "…")
	}
	return fmt.Sprintf("more than one %s fits: %s", s.what, strings.Join(list, ", "))
}

func (*severalError) Is(target error) bool { return target == ErrSeveral }

// severalKeys names keys on a token.
func severalKeys(token URI, list []object) error {
	e := &severalError{what: "private key"}
	for _, o := range list {
		e.list = append(e.list, o.uri(token).String())
	}
	return e
}
