package tpm2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// nvReadPublic returns the TPMS_NV_PUBLIC of an NV index.
func (c *conn) nvReadPublic(ctx context.Context, index uint32) ([]byte, error) {
	_, out, err := c.run(ctx, call{code: ccNVReadPublic, handles: []object{fixed(index)}})
	if err != nil {
		return nil, err
	}
	public := bytes.Clone(out.sized())
	out.sized() // name
	return public, bad(ccNVReadPublic, out.end())
}

// nvRead returns what an NV index holds, as the owner without a password may,
// through a session that is salted to the parent at the handle: what comes back
// is encrypted on the bus, and known to come from the TPM that holds that key.
func (c *conn) nvRead(ctx context.Context, handle uint32, p *parent, index object, size uint16) ([]byte, error) {
	s, err := c.start(ctx, sessionHMAC, handle, p)
	if err != nil {
		return nil, err
	}
	_, out, err := c.run(ctx, call{code: ccNVRead, handles: []object{fixed(handleOwner), index},
		auths: []auth{{s: s, attrs: attrEncryptOut}}, params: put16(nil, size, 0)})
	if err != nil {
		return nil, errors.Join(err, c.close(ctx, s))
	}
	data := bytes.Clone(out.sized())
	if err := out.end(); err != nil || len(data) != int(size) {
		return nil, fmt.Errorf("%w: TPM2_NV_Read: %d bytes of %d", ErrResponse, len(data), size)
	}
	return data, nil
}

// vouched returns the policy digest that the NV index of a pcrlock policy holds.
// The index has to be the very one that the policy file names.
func (c *conn) vouched(ctx context.Context, handle uint32, p *parent, lock *pcrLock) (digest, error) {
	public, err := c.nvReadPublic(ctx, lock.nv.handle)
	if codeOf(err) == rcHandle {
		return digest{}, fmt.Errorf("%w: the TPM has no NV index %#x", ErrPolicy, lock.nv.handle)
	}
	if err != nil {
		return digest{}, err
	}
	if name := objectName(public); !bytes.Equal(name, lock.nv.name) {
		return digest{}, fmt.Errorf("%w: NV index %#x is another than that of the pcrlock policy", ErrPolicy, lock.nv.handle)
	}
	const size = 2 + digestSize
	data, err := c.nvRead(ctx, handle, p, object{lock.nv.handle, lock.nv.name}, size)
	if err != nil {
		return digest{}, err
	}
	in := &cursor{b: data}
	if alg := in.u16(); alg != algSHA256 {
		return digest{}, fmt.Errorf("%w: NV index %#x holds a digest of algorithm %#x", ErrResponse, lock.nv.handle, alg)
	}
	return digest(in.b), nil
}
