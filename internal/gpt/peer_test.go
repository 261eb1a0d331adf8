package gpt

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sgdisk runs the original. The test is skipped where there is none, but fails
// where CI is set.
func sgdisk(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("sgdisk")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/sgdisk")
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("sgdisk %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestReadsWhatSgdiskMakes(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	rootUUID, verityUUID := "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "01234567-89ab-cdef-0123-456789abcdef"
	sgdisk(t, "-U", "DEADBEEF-0000-1111-2222-333344445555",
		"-n", "1:2048:4095", "-t", "1:4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "-u", "1:"+rootUUID, "-c", "1:größe_7", "-A", "1:set:60", "-A", "1:set:59",
		"-n", "3:6144:6144", "-t", "3:2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "-u", "3:"+verityUUID,
		"-n", "128:8192:0", "-t", "128:933ac7e1-2eb4-4f13-b844-0e14e2aef915", "-u", "128:"+strings.Replace(rootUUID, "a", "b", 1), "-A", "128:set:63", name)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ram(b).read()
	if err != nil || got.Damage() != nil {
		t.Fatal(err, got.Damage())
	}
	want := []Partition{
		{Number: 1, Type: typeOf(t, Root, "x86-64"), UUID: uuid(t, rootUUID), Label: "größe_7", Attributes: ReadOnly | GrowFS, Offset: 1 << 20, Size: 1 << 20},
		{Number: 3, Type: typeOf(t, RootVerity, "x86-64"), UUID: uuid(t, verityUUID), Offset: 3 << 20, Size: 512},
		{Number: 128, Type: typeOf(t, Home, ""), UUID: uuid(t, strings.Replace(rootUUID, "a", "b", 1)), Attributes: NoAuto, Offset: 4 << 20, Size: 4<<20 - 33*512},
	}
	// sgdisk names partitions after their types when no name is given.
	for i := range got.Partitions[1:] {
		got.Partitions[i+1].Label = ""
	}
	if got.UUID.String() != "deadbeef-0000-1111-2222-333344445555" || !slices.Equal(got.Partitions, want) {
		t.Errorf("%+v, not %+v", got.Partitions, want)
	}
}

func TestSgdiskVerifiesWhatIsWritten(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "disk")
	table := sample(t, 512)
	table.Partitions[0].Label = "image_1.2 ü" // sgdisk prints no other planes
	size, err := table.Place(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	r := make(ram, size)
	if err := table.Write(r, size); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, r, 0o600); err != nil {
		t.Fatal(err)
	}
	out := sgdisk(t, "-v", name)
	if !strings.Contains(out, "No problems found") || strings.Contains(strings.ToLower(out), "warning") {
		t.Error(out)
	}
	out = sgdisk(t, "-i", "1", name)
	for _, want := range []string{"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "11111111-2222-3333-4444-555555555555", "First sector: 2048 ",
		"Last sector: 2067 ", "1800000000000000", "'image_1.2 ü'"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
}
