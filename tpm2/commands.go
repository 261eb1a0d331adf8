package tpm2

import (
	"bytes"
	"context"
	"fmt"
)

// bad wraps what is wrong with the parameters of a response.
func bad(code uint32, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: TPM2_%s: %w", ErrResponse, commandName(code), err)
}

// emptyAuth is the empty password: what storage hierarchy and parent keys have.
func emptyAuth() []auth { return []auth{{}} }

// readPublic returns the TPMT_PUBLIC of a loaded or persistent object.
func (c *conn) readPublic(ctx context.Context, handle uint32) ([]byte, error) {
	_, out, err := c.run(ctx, call{code: ccReadPublic, handles: []object{fixed(handle)}})
	if err != nil {
		return nil, err
	}
	public := out.sized()
	out.sized() // name
	out.sized() // qualified name
	return bytes.Clone(public), bad(ccReadPublic, out.end())
}

// createPrimary makes a storage key from a template in the owner hierarchy. The
// caller flushes it.
func (c *conn) createPrimary(ctx context.Context, template []byte) (uint32, *parent, error) {
	params := putSized(nil, put16(nil, 0, 0)) // neither authorisation nor data
	params = putSized(params, template)
	params = put32(put16(params, 0), 0) // no outside information, no PCRs
	h, out, err := c.run(ctx, call{code: ccCreatePrimary, handles: []object{fixed(handleOwner)}, auths: emptyAuth(),
		params: params, returns: true})
	if err != nil {
		return 0, nil, err
	}
	p, err := parseParent(out.sized())
	if err != nil {
		_ = c.flush(ctx, h)
		return 0, nil, bad(ccCreatePrimary, err)
	}
	return h, p, nil
}

// load makes a sealed object known to the TPM, which first checks that it made
// it itself. The caller flushes it.
func (c *conn) load(ctx context.Context, parent uint32, s sealed) (object, error) {
	h, _, err := c.run(ctx, call{code: ccLoad, handles: []object{fixed(parent)}, auths: emptyAuth(),
		params: putSized(putSized(nil, s.private), s.public), returns: true})
	return object{h, objectName(s.public)}, err
}

// imported turns what was sealed for the parent elsewhere into what load takes.
func (c *conn) imported(ctx context.Context, parent uint32, s sealed) (sealed, error) {
	params := putSized(nil) // no inner key
	params = putSized(putSized(putSized(params, s.public), s.private), s.seed)
	_, out, err := c.run(ctx, call{code: ccImport, handles: []object{fixed(parent)}, auths: emptyAuth(),
		params: put16(params, algNull)})
	if err != nil {
		return sealed{}, err
	}
	private := bytes.Clone(out.sized())
	return sealed{private: private, public: s.public}, bad(ccImport, out.end())
}

// policy runs a policy command that returns nothing.
func (c *conn) policy(ctx context.Context, code uint32, s *session, params []byte) error {
	_, _, err := c.run(ctx, call{code: code, handles: []object{fixed(s.handle)}, params: params})
	return err
}

// policyPCR binds the session to what the PCRs hold now.
func (c *conn) policyPCR(ctx context.Context, s *session, bank uint16, pcrs []int) error {
	return c.policy(ctx, ccPolicyPCR, s, append(putSized(nil), selection(bank, pcrs)...))
}

func (c *conn) policyOR(ctx context.Context, s *session, branches []digest) error {
	params := put32(nil, uint32(len(branches)))
	for _, b := range branches {
		params = putSized(params, b[:])
	}
	return c.policy(ctx, ccPolicyOR, s, params)
}

func (c *conn) policyAuthorizeNV(ctx context.Context, s *session, index uint32) error {
	_, _, err := c.run(ctx, call{code: ccPolicyAuthorizeNV, auths: emptyAuth(),
		handles: []object{fixed(handleOwner), fixed(index), fixed(s.handle)}})
	return err
}

// policyGetDigest returns how far the session's policy has come.
func (c *conn) policyGetDigest(ctx context.Context, s *session) (digest, error) {
	_, out, err := c.run(ctx, call{code: ccPolicyGetDigest, handles: []object{fixed(s.handle)}})
	if err != nil {
		return digest{}, err
	}
	d := out.sized()
	if err := out.end(); err != nil || len(d) != digestSize {
		return digest{}, fmt.Errorf("%w: policy digest of %d bytes", ErrResponse, len(d))
	}
	return digest(d), nil
}

// policyAuthorize makes the TPM check the signature over the session's policy
// and takes the session from that policy to what the key stands for.
func (c *conn) policyAuthorize(ctx context.Context, s *session, pol digest, ref, public, signature []byte) error {
	params := put32(putSized(put16(nil, 0), public), handleOwner)
	key, _, err := c.run(ctx, call{code: ccLoadExternal, params: params, returns: true})
	if err != nil {
		return err
	}
	signed := digestOf(pol[:], ref)
	params = putSized(put16(putSized(nil, signed[:]), algRSASSA, algSHA256), signature)
	_, out, err := c.run(ctx, call{code: ccVerifySignature, handles: []object{fixed(key)}, params: params})
	var ticket []byte
	if err == nil {
		ticket = bytes.Clone(out.b)
	}
	if flushed := c.flush(ctx, key); err == nil {
		err = flushed
	}
	if err != nil {
		return err
	}
	params = putSized(putSized(putSized(nil, pol[:]), ref), objectName(public))
	return c.policy(ctx, ccPolicyAuthorize, s, append(params, ticket...))
}

// pcrRead returns the values of PCRs in a bank; a TPM reads a few at a time and
// leaves out those that it does not keep.
func (c *conn) pcrRead(ctx context.Context, b bank, pcrs []int) (map[int][]byte, error) {
	values := map[int][]byte{}
	for len(pcrs) > 0 {
		_, out, err := c.run(ctx, call{code: ccPCRRead, params: selection(b.alg, pcrs)})
		if err != nil {
			return nil, err
		}
		out.u32() // how often any PCR changed so far
		selected := readSelections(out)
		n := int(out.u32())
		got := values
		if n == 0 || n > len(pcrs) || n != len(selected[b.alg]) {
			if n == 0 && out.err == nil {
				return nil, fmt.Errorf("%w: %s", ErrBank, b.name)
			}
			return nil, bad(ccPCRRead, fmt.Errorf("%d values", n))
		}
		for _, i := range selected[b.alg] {
			got[i] = bytes.Clone(out.sized())
			if len(got[i]) != b.size {
				return nil, bad(ccPCRRead, fmt.Errorf("value of %d bytes", len(got[i])))
			}
		}
		if err := out.end(); err != nil {
			return nil, bad(ccPCRRead, err)
		}
		before := len(pcrs)
		if pcrs = missing(pcrs, values); len(pcrs) == before {
			return nil, bad(ccPCRRead, fmt.Errorf("other PCRs than asked for"))
		}
	}
	return values, nil
}

func missing(pcrs []int, values map[int][]byte) []int {
	var left []int
	for _, n := range pcrs {
		if _, ok := values[n]; !ok {
			left = append(left, n)
		}
	}
	return left
}

// readSelections reads a TPML_PCR_SELECTION.
func readSelections(c *cursor) map[uint16][]int {
	selected := map[uint16][]int{}
	for range min(c.u32(), 16) {
		alg := c.u16()
		for i, bits := range c.bytes(int(c.u8())) {
			for bit := range 8 {
				if bits&(1<<bit) != 0 {
					selected[alg] = append(selected[alg], 8*i+bit)
				}
			}
		}
	}
	return selected
}

// Capabilities that are asked for.
const (
	capPCRs       = 5
	capProperties = 6

	propLockoutCounter  = 0x20e
	propMaxAuthFail     = 0x20f
	propLockoutInterval = 0x210
)

// capability asks for a part of one capability and returns what follows its name.
func (c *conn) capability(ctx context.Context, kind, first, n uint32) (*cursor, error) {
	_, out, err := c.run(ctx, call{code: ccGetCapability, params: put32(nil, kind, first, n)})
	if err != nil {
		return nil, err
	}
	out.u8() // more to come
	if got := out.u32(); got != kind {
		return nil, bad(ccGetCapability, fmt.Errorf("capability %d", got))
	}
	return out, nil
}

// activeBanks returns which PCRs each bank keeps.
func (c *conn) activeBanks(ctx context.Context) (map[uint16][]int, error) {
	out, err := c.capability(ctx, capPCRs, 0, 1)
	if err != nil {
		return nil, err
	}
	active := readSelections(out)
	return active, bad(ccGetCapability, out.end())
}

// properties returns properties of the TPM from the first on.
func (c *conn) properties(ctx context.Context, first, n uint32) (map[uint32]uint32, error) {
	out, err := c.capability(ctx, capProperties, first, n)
	if err != nil {
		return nil, err
	}
	list := map[uint32]uint32{}
	for range min(out.u32(), 128) {
		property := out.u32()
		list[property] = out.u32()
	}
	return list, bad(ccGetCapability, out.end())
}
