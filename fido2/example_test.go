package fido2_test

import (
	"context"
	"fmt"

	"github.com/lockport/lockport/fido2"
	"github.com/lockport/lockport/fido2/fido2test"
)

// A program of its own can have a secret from a security key, without a volume.
func Example() {
	ctx := context.Background()
	conn := fido2test.New(fido2test.Config{}).Conn() // or fido2.Hidraw{Root: "/"}.Open(ctx, "/dev/hidraw0")
	d, err := fido2.Connect(ctx, conn)
	if err != nil {
		fmt.Println(err)
		return
	}
	d.Touch = func() { fmt.Println("touch it") }
	made, err := d.MakeCredential(ctx, fido2.CredentialOptions{RP: "example.org", Algorithm: fido2.ES256,
		User: fido2.User{ID: []byte{1}, Name: "Ada"}}, false, false, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	t := &fido2.Token{Credential: made.ID, Salt: make([]byte, 32), RP: "example.org", UP: new(true)}
	s, err := d.Secret(ctx, t, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Wipe()
	fmt.Println(s.Len(), "bytes:", s)
	// Output:
	// touch it
	// touch it
	// 32 bytes: [secret]
}
