//go:build !linux

package ask

import (
	"context"
	"errors"
	"os"

	"github.com/lockport/lockport/volume"
)

// OpenTerminal returns an opener that finds no terminal: prompts are built for
// Linux only.
func OpenTerminal(*os.File) func() (*os.File, error) {
	return func() (*os.File, error) { return nil, errors.ErrUnsupported }
}

func (a *Asker) openTerminal(context.Context, volume.Question) (channel, error) { return nil, errNone }

func (a *Asker) openAgents(volume.Question) (channel, error) { return nil, errNone }
