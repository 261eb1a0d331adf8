package tpm2

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/lockport/lockport/luks2"
)

func TestReadPCRs(t *testing.T) {
	t.Parallel()
	tpm := startB(t)
	banks, err := Banks(t.Context(), tpm)
	if err != nil {
		t.Fatal(err)
	}
	if len(banks["sha256"]) != 24 || len(banks["md5"]) != 0 {
		t.Errorf("%v", banks)
	}
	values, err := ReadPCRs(t.Context(), tpm, "sha256", banks["sha256"])
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{0: readVectors(t).PCRs["B"]["0"].SHA256, 11: readVectors(t).PCRs["B"]["11"].SHA256,
		1: strings.Repeat("00", 32), 17: strings.Repeat("ff", 32)} {
		if got := hex.EncodeToString(values[n]); got != want || len(values) != 24 {
			t.Errorf("PCR %d: %s, not %s", n, got, want)
		}
	}
	if _, err := ReadPCRs(t.Context(), tpm, "md5", []int{0}); !errors.Is(err, luks2.ErrUnsupported) {
		t.Error(err)
	}
	for _, n := range []int{-1, 24} {
		if _, err := ReadPCRs(t.Context(), tpm, "sha256", []int{n}); err == nil {
			t.Errorf("read PCR %d", n)
		}
	}
}
