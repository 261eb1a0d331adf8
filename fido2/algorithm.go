package fido2

import "fmt"

// Algorithm is a public key algorithm by its COSE number. The key pair signs what
// nobody looks at here; which one it is only matters to devices that do not have
// them all.
type Algorithm int

// The algorithms that systemd knows.
const (
	ES256 Algorithm = -7
	EdDSA Algorithm = -8
	RS256 Algorithm = -257
)

// algorithmNames are those of systemd-cryptenroll.
var algorithmNames = map[Algorithm]string{ES256: "es256", EdDSA: "eddsa", RS256: "rs256"}

// String returns systemd's name.
func (a Algorithm) String() string {
	if name, known := algorithmNames[a]; known {
		return name
	}
	return fmt.Sprintf("algorithm %d", int(a))
}

// ParseAlgorithm reads systemd's name of an algorithm.
func ParseAlgorithm(name string) (Algorithm, error) {
	for a, n := range algorithmNames {
		if n == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("%q is none of es256, eddsa, rs256", name)
}
