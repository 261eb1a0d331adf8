package fido2test

import (
	"context"
	"crypto/hmac"
	"slices"

	"github.com/fxamacker/cbor/v2"
)

// status is the first byte of an answer.
type status byte

const (
	ok              status = 0
	errCommand      status = 0x01
	errParameter    status = 0x02
	errLength       status = 0x03
	errCBOR         status = 0x12
	errMissing      status = 0x14
	errAlgorithm    status = 0x26
	errDenied       status = 0x27
	errOption       status = 0x2b
	errInvalidOpt   status = 0x2c
	errCancel       status = 0x2d
	errNoCred       status = 0x2e
	errUserTimeout  status = 0x2f
	errPINInvalid   status = 0x31
	errPINBlocked   status = 0x32
	errAuthInvalid  status = 0x33
	errAuthBlocked  status = 0x34
	errPINNotSet    status = 0x35
	errPUATRequired status = 0x36
	errPolicy       status = 0x37
	errUVBlocked    status = 0x3c
	errSubcommand   status = 0x3e
	errUVInvalid    status = 0x3f
	errPermission   status = 0x40
)

var encoding, decoding = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	e, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	d, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden}.DecMode()
	if err != nil {
		panic(err)
	}
	return e, d
}

// Handle answers one message. alive gives signs of life while it waits for a person;
// 2 means that one is needed. When ctx ends the operation is cancelled.
func (k *Key) Handle(ctx context.Context, message []byte, alive func(status byte)) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(message) == 0 {
		return []byte{byte(errLength)}
	}
	var answer any
	s := errCommand
	switch body := message[1:]; message[0] {
	case 0x01:
		answer, s = k.makeCredential(ctx, body, alive)
	case 0x02:
		answer, s = k.getAssertion(ctx, body, alive)
	case 0x04:
		answer, s = k.info(), ok
	case 0x06:
		answer, s = k.clientPIN(ctx, body, alive)
	case 0x0b: // selection
		s = k.touch(ctx, alive)
	}
	if err := k.save(); err != nil {
		panic(err)
	}
	if s != ok || answer == nil {
		return []byte{byte(s)}
	}
	b, err := encoding.Marshal(answer)
	if err != nil {
		panic(err)
	}
	return append([]byte{0}, b...)
}

func (k *Key) protocols() []uint64 {
	switch {
	case k.s.Protocols != nil:
		return k.s.Protocols
	case k.s.CTAP20:
		return []uint64{1}
	}
	return []uint64{2, 1}
}

// ownAAGUID is that of no other model.
const ownAAGUID = "lockport softkey"

func (k *Key) aaguid() []byte {
	if k.s.AAGUID != nil {
		return k.s.AAGUID
	}
	return []byte(ownAAGUID)
}

func (k *Key) info() map[int]any {
	if k.s.U2F {
		return map[int]any{1: []string{"U2F_V2"}, 3: k.aaguid()}
	}
	versions, extensions := []string{"FIDO_2_0"}, []string{}
	options := map[string]bool{"rk": false, "clientPin": k.s.PIN != ""}
	if k.s.NoUP {
		options["up"] = false
	}
	if k.s.UV != "" {
		options["uv"] = true
	}
	if !k.s.CTAP20 {
		versions = append(versions, "FIDO_2_1")
		extensions = append(extensions, "credProtect")
		options["pinUvAuthToken"] = true
		options["alwaysUv"] = k.s.AlwaysUV
		options["makeCredUvNotRqd"] = !k.s.AlwaysUV && !k.s.PINForNew
	}
	if !k.s.NoHMACSecret {
		extensions = append(extensions, "hmac-secret")
	}
	info := map[int]any{1: versions, 2: extensions, 3: k.aaguid(), 4: options, 5: 1200, 6: k.protocols()}
	if !k.s.CTAP20 {
		info[7], info[8], info[9] = 8, 255, []string{"usb"}
		info[10] = []map[string]any{{"alg": algES256, "type": "public-key"}, {"alg": algEdDSA, "type": "public-key"}}
		info[13], info[14] = 4, 0x010203
	}
	return info
}

// What a token permits.
const (
	permitMake   = 1
	permitAssert = 2
)

// authorise checks a proof of verification. used says that there was one.
func (k *Key) authorise(ctx context.Context, proof *[]byte, protocol uint64, hash []byte, permission uint64, rp string, alive func(byte)) (used bool, s status) {
	if proof == nil {
		return false, ok
	}
	if len(*proof) == 0 {
		// A question of old: which of the keys is it that somebody touches?
		if s := k.touch(ctx, alive); s != ok {
			return false, s
		}
		if k.s.PIN == "" {
			return false, errPINNotSet
		}
		return false, errPINInvalid
	}
	t := k.token
	switch {
	case protocol == 0:
		return false, errMissing
	case !slices.Contains(k.protocols(), protocol):
		return false, errParameter
	case t.value == nil || t.protocol != protocol || !hmac.Equal(*proof, mac(protocol, t.value, hash)):
		return false, errAuthInvalid
	case t.permits&permission == 0, t.rp != "" && t.rp != rp:
		return false, errAuthInvalid
	}
	if !k.s.CTAP20 {
		k.token = token{} // for one operation with a touch
	}
	return t.verified, ok
}

// verify has the key verify its user by itself.
func (k *Key) verify(ctx context.Context, alive func(byte)) status {
	if k.s.UVRetries == 0 {
		return errUVBlocked
	}
	if s := k.touch(ctx, alive); s != ok {
		return s
	}
	if k.s.UV == "ok" {
		k.s.UVRetries = maxUVRetries
		return ok
	}
	if k.s.UVRetries--; k.s.UVRetries == 0 {
		return errUVBlocked
	}
	return errUVInvalid
}
