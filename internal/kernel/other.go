//go:build !linux

package kernel

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/lockport/lockport/luks2"
	"github.com/lockport/lockport/secret"
)

// Options have a meaning on Linux only.
type Options struct {
	Dev, Udev, Sys, Proc     string
	Rules                    []string
	NoKeyring                bool
	UdevTimeout, BusyTimeout time.Duration
	Log                      *slog.Logger
}

// Mapper can't map anything here.
type Mapper struct{}

// New returns a Mapper whose methods return [ErrUnsupported].
func New(Options) *Mapper { return &Mapper{} }

// Map returns [ErrUnsupported].
func (m *Mapper) Map(context.Context, string, luks2.Table, *secret.Bytes) error {
	return ErrUnsupported
}

// Unmap returns [ErrUnsupported].
func (m *Mapper) Unmap(context.Context, string) error { return ErrUnsupported }

// Mapped returns [ErrUnsupported].
func (m *Mapper) Mapped(context.Context, string) (string, error) { return "", ErrUnsupported }

// AttachLoop returns [ErrUnsupported].
func (m *Mapper) AttachLoop(string, bool) (string, func() error, error) {
	return "", nil, ErrUnsupported
}

// Mount returns [ErrUnsupported].
func (m *Mapper) Mount(context.Context, *os.File, int64, int64, string) (fs.ReadLinkFS, func() error, error) {
	return nil, nil, ErrUnsupported
}

// Backing returns [ErrUnsupported].
func (m *Mapper) Backing(string) (string, error) { return "", ErrUnsupported }

// LUKSDevices returns [ErrUnsupported].
func (m *Mapper) LUKSDevices() ([]Device, error) { return nil, ErrUnsupported }

// Size returns the length of a regular file.
func Size(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, ErrUnsupported
	}
	return info.Size(), nil
}

// SectorSizes answers for regular files.
func SectorSizes(*os.File) (logical, physical int, err error) { return 512, 4096, nil }

// ReadOnly returns [ErrUnsupported].
func ReadOnly(*os.File) (bool, error) { return false, ErrUnsupported }

// DeviceNumber returns [ErrUnsupported].
func DeviceNumber(*os.File) (major, minor uint32, err error) { return 0, 0, ErrUnsupported }

// LockMemory returns [ErrUnsupported].
func LockMemory() error { return ErrUnsupported }

// Key returns [ErrUnsupported].
func Key(string) (*secret.Bytes, error) { return nil, ErrUnsupported }

// CacheGet returns [ErrUnsupported].
func CacheGet(string) (*secret.Bytes, error) { return nil, ErrUnsupported }

// CachePut returns [ErrUnsupported].
func CachePut(string, *secret.Bytes, time.Duration) error { return ErrUnsupported }
