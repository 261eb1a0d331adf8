package zstd_test

import (
	"bytes"
	"testing"

	"github.com/lockport/lockport/internal/zstd"
)

// Whatever is compressed comes back. To reach a second block, the source is
// repeated with changes.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("abcabcabc"), uint16(1))
	f.Add(text(3000, 5), uint16(70))
	f.Add(noise(300, 2), uint16(900))
	d := decoder(f)
	f.Fuzz(func(t *testing.T, part []byte, times uint16) {
		var src []byte
		for i := range times % 1000 {
			if len(src)+len(part)+1 > 400_000 {
				break
			}
			src = append(append(src, part...), byte(i*i>>3))
		}
		for _, effort := range efforts {
			got, err := d.DecodeAll(zstd.NewEncoder(effort).Encode(nil, src), nil)
			if err != nil || !bytes.Equal(got, src) {
				t.Fatalf("%v: %d bytes: %v", effort, len(src), err)
			}
		}
	})
}
