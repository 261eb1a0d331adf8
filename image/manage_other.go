//go:build !linux

package image

import (
	"errors"
	"os"
)

func (h *held) lock() (unlock func(), err error) { return func() {}, nil }

func isMount(*os.File) bool { return false }

func (h *held) deleteSubvolume() error { return errors.ErrUnsupported }

func markDirectory(*os.File, bool) error { return errors.ErrUnsupported }

func markDevice(*os.File, bool) error { return errors.ErrUnsupported }

func limitSubvolume(*os.File, uint64) error { return ErrNoLimit }
