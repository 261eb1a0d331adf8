//go:build secretcount

package secret

import (
	"runtime/debug"
	"sync"
)

var (
	liveMu sync.Mutex
	live   = map[*Bytes]string{}
)

type mark struct{}

func (mark) born(s *Bytes) {
	liveMu.Lock()
	defer liveMu.Unlock()
	live[s] = string(debug.Stack())
}

func (mark) died(s *Bytes) {
	liveMu.Lock()
	defer liveMu.Unlock()
	delete(live, s)
}

// Live returns the stacks at which the secrets that are still alive were made.
func Live() []string {
	liveMu.Lock()
	defer liveMu.Unlock()
	stacks := make([]string, 0, len(live))
	for _, stack := range live {
		stacks = append(stacks, stack)
	}
	return stacks
}
