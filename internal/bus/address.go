package bus

import (
	"fmt"
	"net/url"
	"strings"
)

// sockets returns the sockets in an address of a bus, in their order. Those that
// are not on this machine are passed over.
//
// Source: D-Bus Specification, "Server Addresses".
func sockets(address string) ([]string, error) {
	var list []string
	for one := range strings.SplitSeq(address, ";") {
		options, ok := strings.CutPrefix(one, "unix:")
		if !ok {
			continue
		}
		for option := range strings.SplitSeq(options, ",") {
			key, value, _ := strings.Cut(option, "=")
			value, err := url.PathUnescape(value)
			if err != nil || value == "" {
				continue
			}
			switch key {
			case "path":
				list = append(list, value)
			case "abstract":
				list = append(list, "@"+value)
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%q: %w", address, ErrAddress)
	}
	return list, nil
}
