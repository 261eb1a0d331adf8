package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockport/lockport/secret"
)

// Flags of slots, tokens, sessions and mechanisms: CKF_ values of PKCS#11 2.40.
const (
	slotTokenPresent = 1 << 0
	slotHardware     = 1 << 2

	tokenLoginRequired = 1 << 2
	tokenProtectedPath = 1 << 8
	tokenInitialised   = 1 << 10
	tokenPINCountLow   = 1 << 16
	tokenPINFinalTry   = 1 << 17
	tokenPINLocked     = 1 << 18

	sessionSerial = 1 << 2

	mechanismDecrypt      = 1 << 9
	mechanismUncompressed = 1 << 24
	mechanismCompressed   = 1 << 25
)

// Mechanisms and what belongs to their parameters.
const (
	mechanismRSA     = 0x01
	mechanismRSAOAEP = 0x09
	mechanismECDH    = 0x1050

	hashSHA1   = 0x220
	hashSHA256 = 0x250
	mgf1SHA1   = 1
	mgf1SHA256 = 2

	noDerivation  = 1 // the shared secret as it is
	dataSpecified = 1 // the label of OAEP is given, and empty
)

const userNormal = 1 // who logs in

type slotInfo struct {
	description, manufacturer string
	flags                     uint64
}

type tokenInfo struct {
	label, manufacturer, model, serial string
	flags                              uint64
}

type moduleInfo struct {
	manufacturer, description string
	major, minor              byte
}

// initialise has the module start. What reserved is, the module knows.
func (c *conn) initialise(ctx context.Context, reserved string) error {
	r := newRequest(fInitialize)
	r.array([]byte(handshake))
	given := byte(0)
	if reserved != "" {
		given = 1
	}
	r.byte(given)
	r.array(append([]byte(reserved), 0))
	return c.plain(ctx, fInitialize, c.machine, r)
}

// plain makes a call whose answer is empty.
func (c *conn) plain(ctx context.Context, f function, limit time.Duration, r *request) error {
	a, err := c.call(ctx, f, limit, r)
	if err != nil {
		return err
	}
	defer a.wipe()
	return c.done(f, a)
}

func (c *conn) finalise(ctx context.Context) error {
	r := newRequest(fFinalize)
	return c.plain(ctx, fFinalize, time.Second, r)
}

func (c *conn) info(ctx context.Context) (moduleInfo, error) {
	a, err := c.call(ctx, fGetInfo, c.machine, newRequest(fGetInfo))
	if err != nil {
		return moduleInfo{}, err
	}
	defer a.wipe()
	var i moduleInfo
	a.take(2) // version of PKCS#11
	i.manufacturer = a.text(32)
	a.u64()
	i.description = a.text(32)
	i.major, i.minor = a.byte(), a.byte()
	return i, c.done(fGetInfo, a)
}

// maxSlots is the most that we look at of one module.
const maxSlots = 256

// slots lists the slots that have a token. Asking how many there are is what
// makes modules look for new ones.
func (c *conn) slots(ctx context.Context) ([]uint64, error) {
	room := uint32(0)
	for range 8 {
		list, n, err := c.slotList(ctx, room)
		if err != nil || n == 0 || list != nil {
			return list, err
		}
		room = n // they may become more until then
	}
	return nil, errors.New("the slots kept changing")
}

func (c *conn) slotList(ctx context.Context, room uint32) ([]uint64, uint32, error) {
	r := newRequest(fGetSlotList)
	r.byte(1)
	r.u32(room)
	a, err := c.call(ctx, fGetSlotList, c.machine, r)
	if err != nil {
		return nil, 0, err
	}
	defer a.wipe()
	list, n, _ := a.numbers()
	if n > maxSlots {
		a.fail("%d slots", n)
	}
	return list, n, c.done(fGetSlotList, a)
}

func (c *conn) slotInfo(ctx context.Context, slot uint64) (slotInfo, error) {
	r := newRequest(fGetSlotInfo)
	r.u64(slot)
	a, err := c.call(ctx, fGetSlotInfo, c.machine, r)
	if err != nil {
		return slotInfo{}, err
	}
	defer a.wipe()
	s := slotInfo{description: a.text(64), manufacturer: a.text(32), flags: a.u64()}
	a.take(4) // versions
	return s, c.done(fGetSlotInfo, a)
}

func (c *conn) tokenInfo(ctx context.Context, slot uint64) (tokenInfo, error) {
	r := newRequest(fGetTokenInfo)
	r.u64(slot)
	a, err := c.call(ctx, fGetTokenInfo, c.machine, r)
	if err != nil {
		return tokenInfo{}, err
	}
	defer a.wipe()
	t := tokenInfo{label: a.text(32), manufacturer: a.text(32), model: a.text(16), serial: a.text(16), flags: a.u64()}
	a.take(10*8 + 4) // counts, sizes, versions
	a.text(16)       // its clock
	return t, c.done(fGetTokenInfo, a)
}

// mechanism returns the flags of a mechanism, 0 where the token does not have it.
func (c *conn) mechanism(ctx context.Context, slot, mechanism uint64) (uint64, error) {
	r := newRequest(fGetMechanismInfo)
	r.u64(slot)
	r.u64(mechanism)
	a, err := c.call(ctx, fGetMechanismInfo, c.machine, r)
	if errors.Is(err, codeMechanism) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer a.wipe()
	a.take(16) // sizes of keys
	flags := a.u64()
	return flags, c.done(fGetMechanismInfo, a)
}

// session opens a session, which ends with the connection at the latest.
func (c *conn) session(ctx context.Context, slot uint64) (uint64, error) {
	r := newRequest(fOpenSession)
	r.u64(slot)
	r.u64(sessionSerial)
	a, err := c.call(ctx, fOpenSession, c.machine, r)
	if err != nil {
		return 0, err
	}
	defer a.wipe()
	return a.u64(), c.done(fOpenSession, a)
}

func (c *conn) closeSession(ctx context.Context, session uint64) error {
	r := newRequest(fCloseSession)
	r.u64(session)
	return c.plain(ctx, fCloseSession, time.Second, r)
}

// login logs in with a PIN, which stays the caller's, or for nil at the token
// itself, where a person may have to do something.
func (c *conn) login(ctx context.Context, session uint64, pin *secret.Bytes) error {
	r := newRequest(fLogin)
	r.u64(session)
	r.u64(userNormal)
	limit := c.machine
	if pin == nil {
		limit = c.person
		r.noArray()
	} else {
		r.array(pin.Reveal())
	}
	return c.plain(ctx, fLogin, limit, r)
}

func (c *conn) destroy(ctx context.Context, session, object uint64) error {
	r := newRequest(fDestroyObject)
	r.u64(session)
	r.u64(object)
	return c.plain(ctx, fDestroyObject, c.machine, r)
}

// maxObjects is the most that we look at of one search.
const maxObjects = 256

// find lists the objects that have all these attributes.
func (c *conn) find(ctx context.Context, session uint64, template []attribute) ([]uint64, error) {
	r := newRequest(fFindObjectsInit)
	r.u64(session)
	r.template(template)
	if err := c.plain(ctx, fFindObjectsInit, c.machine, r); err != nil {
		return nil, err
	}
	list, err := c.found(ctx, session)
	if err != nil {
		return nil, err
	}
	r = newRequest(fFindObjectsFinal)
	r.u64(session)
	return list, c.plain(ctx, fFindObjectsFinal, c.machine, r)
}

func (c *conn) found(ctx context.Context, session uint64) ([]uint64, error) {
	const piece = 64
	var all []uint64
	for {
		r := newRequest(fFindObjects)
		r.u64(session)
		r.u32(piece)
		a, err := c.call(ctx, fFindObjects, c.machine, r)
		if err != nil {
			return nil, err
		}
		list, n, _ := a.numbers()
		if n > piece || len(list) != int(n) {
			a.fail("%d objects where %d were asked for", n, piece)
		}
		err = c.done(fFindObjects, a)
		a.wipe()
		all = append(all, list...)
		switch {
		case err != nil:
			return nil, err
		case len(all) > maxObjects:
			return nil, fmt.Errorf("the security token has more than %d objects of one kind", maxObjects)
		case n == 0:
			return all, nil
		}
	}
}

// roomFor is how many bytes we can take of an attribute.
func roomFor(k attributeKind) uint32 {
	switch k.encoding() {
	case attrNumber:
		return 8
	case attrBool:
		return 1
	}
	if k == attrValue { // a certificate
		return 32 << 10
	}
	return 2 << 10
}

// attributes reads of an object what it lets out. The caller wipes the answer,
// where the values are.
func (c *conn) attributes(ctx context.Context, session, object uint64, kinds ...attributeKind) (attributes, *response, error) {
	r := newRequest(fGetAttributeValue)
	r.u64(session)
	r.u64(object)
	r.u32(uint32(len(kinds)))
	for _, k := range kinds {
		r.u32(uint32(k))
		r.u32(roomFor(k))
	}
	a, err := c.call(ctx, fGetAttributeValue, c.machine, r)
	if err != nil {
		return nil, nil, err
	}
	values := a.attributes(kinds)
	code := Code(a.u64())
	if err := c.done(fGetAttributeValue, a); err != nil {
		a.wipe()
		return nil, nil, err
	}
	switch code {
	case 0, 0x11, codeAttributeMissing, codeBufferTooSmall: // what there is not has no value
		return values, a, nil
	}
	a.wipe()
	return nil, nil, fmt.Errorf("%s: %w", fGetAttributeValue.name, code)
}

// attributes reads the values that were asked for, in that order.
func (r *response) attributes(kinds []attributeKind) attributes {
	values := attributes{}
	if n := r.u32(); int64(n) != int64(len(kinds)) {
		r.fail("%d attributes instead of %d", n, len(kinds))
	}
	for _, k := range kinds {
		if got := r.u32(); r.err == nil && got != uint32(k) {
			r.fail("attribute %#x instead of %#x", got, uint32(k))
		}
		if r.byte() == 0 {
			continue
		}
		length := r.u32()
		var value []byte
		switch k.encoding() {
		case attrNumber:
			value = r.take(8)
		case attrBool:
			value = r.take(1)
		default:
			value = r.bytes()
		}
		if r.err == nil && int64(length) != int64(len(value)) && k.encoding() == attrBytes {
			r.fail("an attribute of %d bytes with %d bytes", length, len(value))
		}
		values[k] = value
	}
	if r.err != nil {
		return nil
	}
	return values
}

// A mechanism is a way to decrypt or derive, with its parameters as they cross the
// wire; nil is without any.
type mechanism struct {
	number     uint32
	parameters func(*request)
}

// mechanism writes it as the other side's version has it.
func (c *conn) writeMechanism(r *request, m mechanism) {
	r.u32(m.number)
	switch {
	case m.parameters == nil && c.version < versionMarked:
		r.noBytes()
	case m.parameters == nil:
	default:
		if c.version >= versionMarked {
			r.byte(1)
		}
		m.parameters(r)
	}
}

func oaep(hash, mgf uint64) mechanism {
	return mechanism{mechanismRSAOAEP, func(r *request) {
		r.u64(hash)
		r.u64(mgf)
		r.u64(dataSpecified)
		r.noBytes()
	}}
}

func agreement(point []byte) mechanism {
	return mechanism{mechanismECDH, func(r *request) {
		r.u64(noDerivation)
		r.noBytes()
		r.bytes(point)
	}}
}

// maxPlain is the most that can come out of a decryption, in bytes.
const maxPlain = 2048

// decrypt decrypts with a key. The caller wipes the result.
func (c *conn) decrypt(ctx context.Context, session, key uint64, m mechanism, data []byte) (*secret.Bytes, error) {
	r := newRequest(fDecryptInit)
	r.u64(session)
	c.writeMechanism(r, m)
	r.u64(key)
	if err := c.plain(ctx, fDecryptInit, c.person, r); err != nil {
		return nil, err
	}
	r = newRequest(fDecrypt)
	r.u64(session)
	r.array(data)
	r.u32(maxPlain)
	a, err := c.call(ctx, fDecrypt, c.person, r)
	if err != nil {
		return nil, err
	}
	defer a.wipe()
	plain, n, ok := a.array()
	if a.err == nil && (!ok || n == 0) {
		a.fail("%d bytes decrypted", n)
	}
	if err := c.done(fDecrypt, a); err != nil {
		return nil, err
	}
	return secret.Copy(plain), nil
}

// derive makes a key out of another one, and returns the new one.
func (c *conn) derive(ctx context.Context, session, key uint64, m mechanism, template []attribute) (uint64, error) {
	if c.version < versionCurves {
		return 0, ErrTooOld
	}
	r := newRequest(fDeriveKey)
	r.u64(session)
	c.writeMechanism(r, m)
	r.u64(key)
	r.template(template)
	a, err := c.call(ctx, fDeriveKey, c.person, r)
	if err != nil {
		return 0, err
	}
	defer a.wipe()
	return a.u64(), c.done(fDeriveKey, a)
}
