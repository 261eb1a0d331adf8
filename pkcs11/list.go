package pkcs11

import "context"

// Found is a security token that is there.
type Found struct {
	URI                        string
	Label, Manufacturer, Model string // as it calls itself, safe to print
	Hardware                   bool   // not a program that behaves like one
}

// List lists the security tokens that keep keys. Modules that fail are in the
// error, which may come along with tokens.
func (l *Library) List(ctx context.Context) ([]Found, error) {
	list, end, err := l.all(ctx)
	defer end()
	var found []Found
	for _, d := range list {
		if d.keeps() {
			found = append(found, Found{d.uri().String(), printable(d.token.label), printable(d.token.manufacturer),
				printable(d.token.model), d.info.flags&slotHardware != 0})
		}
	}
	return found, err
}
