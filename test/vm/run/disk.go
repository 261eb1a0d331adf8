//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// recipe is everything that decides what is on the machine's disk.
//
//go:embed machine
var recipe embed.FS

// unusedDisk is how long a disk of another recipe is kept after its last use.
const unusedDisk = 14 * 24 * time.Hour

// buildBound ends a disk build that hangs on a dead mirror.
const buildBound = 20 * time.Minute

// checkTools names the first tool of the host that is missing.
func checkTools() error {
	for _, tool := range []string{"qemu-system-x86_64", "swtpm", "mmdebstrap", "mkfs.ext4", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing; scripts/peers vm installs it on Debian", tool)
		}
	}
	return nil
}

// machineDisk returns the folder that holds the machine's disk.img, vmlinuz
// and initrd.img, and makes them first when this recipe never was. Runs at the
// same time wait for one build.
func machineDisk(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum, err := recipeSum()
	if err != nil {
		return "", err
	}
	base := filepath.Join(cache, "lockport", "vm")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	dir := filepath.Join(base, sum)
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		now := time.Now()
		return dir, os.Chtimes(dir, now, now)
	}
	if err := buildDisk(ctx, dir); err != nil {
		return "", fmt.Errorf("making the machine's disk: %w", err)
	}
	return dir, prune(base)
}

// recipeSum identifies the recipe by its content.
func recipeSum() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(recipe, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := recipe.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

// lock waits for the lock file and holds it until unlock or the process's end.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	fd := int(f.Fd())
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		say("waiting for another run that makes the disk")
		if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
	}
	return func() { f.Close() }, nil
}

// buildDisk runs the recipe beside dir and renames the result to dir, so that
// dir is there whole or not at all. The caller holds the lock.
func buildDisk(ctx context.Context, dir string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("this needs root, once; afterwards the disk is in %s", dir)
	}
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	files := filepath.Join(part, "recipe")
	if err := os.MkdirAll(part, 0o755); err != nil {
		return err
	}
	machine, err := fs.Sub(recipe, "machine")
	if err != nil {
		return err
	}
	if err := os.CopyFS(files, machine); err != nil {
		return err
	}
	say("making the disk (about 75 seconds, once per recipe)")
	ctx, cancel := context.WithTimeout(ctx, buildBound)
	defer cancel()
	build := command(ctx, "sh", filepath.Join(files, "build"), part)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	return os.Rename(part, dir)
}

// prune removes the disks that no run has used for long.
func prune(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || strings.HasSuffix(e.Name(), ".part") || time.Since(info.ModTime()) < unusedDisk {
			continue
		}
		if err := os.RemoveAll(filepath.Join(base, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
