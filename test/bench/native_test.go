//go:build bench

package bench

import (
	"os"
	"testing"
)

// binary is what `make bench` has built.
const binary = "../../bin/lockport"

// TestBenchTable is the native part of `make bench`.
func TestBenchTable(t *testing.T) {
	var rows []Row
	for _, measure := range []func(*testing.T) Row{size} {
		rows = append(rows, measure(t))
	}
	t.Log("\n" + Table(rows))
}

func size(t *testing.T) Row {
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	return Row{Work: "size of the static file", Unit: "MB", Ours: float64(info.Size()) / 1e6, Aim: "≤ 8 MB"}
}
