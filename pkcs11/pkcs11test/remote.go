package pkcs11test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"   // for OAEP
	_ "crypto/sha256" // for OAEP
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
)

// Flags of tokens, and errors, as PKCS#11 numbers them.
const (
	LoginRequired = 1 << 2
	ProtectedPath = 1 << 8
	Initialised   = 1 << 10
	CountLow      = 1 << 16
	FinalTry      = 1 << 17
	Locked        = 1 << 18

	codeHandle    = 0x82
	codeMechanism = 0x70
	codeParameter = 0x71
	codePIN       = 0xa0
	codeLocked    = 0xa4
	codeNoLogin   = 0x101
	codeEncrypted = 0x40
)

// Remote is a module with tokens, on the other side of a pipe. It speaks the
// protocol of p11-kit remote as the given version has it. It is safe for concurrent
// use; what is changed of a token counts from the next call on.
type Remote struct {
	Version byte // the highest that it knows
	// Answer, if not nil, may replace an answer: it is given the number of the call
	// and the whole message, header and all. Nil ends the connection; what is longer
	// than one message is sent all the same.
	Answer func(call uint32, message []byte) []byte

	mu     sync.Mutex
	tokens []*Token
	calls  []uint32
}

// Token is a token in a slot of its own.
type Token struct {
	Label, Serial string
	Flags         uint64
	Hardware      bool
	PIN           string
	Tries         int // left; 0 is locked
	Objects       []Object
	NoPKCS1       bool // OAEP is all that RSA keys do
	OnlySHA1      bool // and with SHA-1 alone
	Compressed    bool // points have to be
	Wrapped       bool // and in DER
	Stripped      bool // a shared secret loses zeros at its beginning
	Logins        int  // how many there were, with a PIN or without

	in    bool
	plain []byte
}

// Object is what is on a token: its attributes, by number, and the private key
// behind them if there is one.
type Object struct {
	Attributes map[uint32][]byte
	Private    any // *rsa.PrivateKey or *ecdh.PrivateKey
}

// Number is the value of an attribute that is a number.
func Number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Put puts a token into the next slot.
func (r *Remote) Put(t *Token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens = append(r.tokens, t)
}

// Calls returns the numbers of the calls that were made.
func (r *Remote) Calls() []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Dial connects to the module.
func (r *Remote) Dial() io.ReadWriteCloser {
	ours, theirs := net.Pipe()
	go func() {
		defer ours.Close()
		r.serve(ours)
	}()
	return theirs
}

func (r *Remote) serve(rw io.ReadWriter) {
	var version [1]byte
	if _, err := io.ReadFull(rw, version[:]); err != nil {
		return
	}
	version[0] = min(version[0], r.Version)
	if _, err := rw.Write(version[:]); err != nil {
		return
	}
	for {
		var header [12]byte
		if _, err := io.ReadFull(rw, header[:]); err != nil {
			return
		}
		message := make([]byte, binary.BigEndian.Uint32(header[8:]))
		if _, err := io.ReadFull(rw, message); err != nil {
			return
		}
		call := binary.BigEndian.Uint32(message)
		answer := r.handle(call, message[4:], version[0])
		binary.BigEndian.PutUint32(header[8:], uint32(len(answer)))
		answer = append(header[:], answer...)
		if r.Answer != nil {
			if answer = r.Answer(call, answer); answer == nil {
				return
			}
		}
		if _, err := rw.Write(answer); err != nil {
			return
		}
	}
}

// handle makes one call under the lock. What is not as the protocol has it panics,
// which fails the test that sent it.
func (r *Remote) handle(call uint32, body []byte, version byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call)
	in := &reader{b: body}
	in.bytes() // the signature
	s := &serving{Remote: r, in: in, version: version}
	signature, code := s.run(call)
	if len(in.b) > 0 && code == 0 {
		panic("request with too many bytes")
	}
	var head writer
	if code != 0 {
		head.u32(0)
		head.bytes([]byte("u"))
		head.u64(code)
		return head.b
	}
	head.u32(call)
	head.bytes([]byte(signature))
	return append(head.b, s.out.b...)
}

// serving is one call.
type serving struct {
	*Remote
	in      *reader
	out     writer
	version byte
}

func (s *serving) run(call uint32) (signature string, code uint64) {
	switch call {
	case 1: // Initialize
		s.in.array()
		s.in.byte()
		s.in.array()
	case 2: // Finalize
	case 3: // GetInfo
		s.out.add(2, 40)
		s.out.text("maker", 32)
		s.out.u64(0)
		s.out.text("library", 32)
		s.out.add(1, 7)
		return "vsusv", 0
	case 4: // GetSlotList
		s.in.byte()
		s.slots(s.in.u32())
		return "au", 0
	case 5: // GetSlotInfo
		t := s.tokens[s.in.u64()]
		s.out.text("slot of "+t.Label, 64)
		s.out.text("maker", 32)
		flags := uint64(1)
		if t.Hardware {
			flags |= 4
		}
		s.out.u64(flags)
		s.out.add(1, 0, 1, 0)
		return "ssuvv", 0
	case 6: // GetTokenInfo
		s.tokenInfo(s.tokens[s.in.u64()])
		return "ssssuuuuuuuuuuuvvs", 0
	case 8: // GetMechanismInfo
		return "uuu", s.mechanismInfo(s.tokens[s.in.u64()], s.in.u64())
	case 10: // OpenSession: its number is that of the token
		s.out.u64(s.in.u64())
		s.in.u64()
		return "u", 0
	case 11: // CloseSession
		s.in.u64()
	case 18: // Login
		t := s.tokens[s.in.u64()]
		s.in.u64()
		return "", t.login(s.in.array())
	case 22: // DestroyObject
		s.in.u64()
		s.in.u64()
	case 24: // GetAttributeValue
		s.attributes()
		return "aAu", 0
	case 26: // FindObjectsInit
		t := s.tokens[s.in.u64()]
		t.find(s.in.template())
	case 27: // FindObjects
		s.found(s.tokens[s.in.u64()])
		return "au", 0
	case 28: // FindObjectsFinal
		s.in.u64()
	case 33: // DecryptInit
		return "", s.decryptInit()
	case 34: // Decrypt
		return "ay", s.decrypt()
	case 62: // DeriveKey
		return "u", s.derive()
	default:
		return "", 0x54
	}
	return "", 0
}

func (s *serving) slots(room uint32) {
	if room < uint32(len(s.tokens)) {
		s.out.add(0)
		s.out.u32(uint32(len(s.tokens)))
		return
	}
	s.out.add(1)
	s.out.u32(uint32(len(s.tokens)))
	for i := range s.tokens {
		s.out.u64(uint64(i))
	}
}

func (s *serving) tokenInfo(t *Token) {
	s.out.text(t.Label, 32)
	s.out.text("maker", 32)
	s.out.text("model", 16)
	s.out.text(t.Serial, 16)
	s.out.u64(t.Flags | Initialised)
	for range 10 {
		s.out.u64(0)
	}
	s.out.add(1, 0, 1, 0)
	s.out.text("", 16)
}

func (s *serving) mechanismInfo(t *Token, mechanism uint64) uint64 {
	flags := uint64(1 << 9)
	switch {
	case mechanism == 1 && t.NoPKCS1:
		return codeMechanism
	case mechanism == 0x1050 && t.Compressed:
		flags = 1 << 25
	case mechanism == 0x1050:
		flags = 1 << 24
	}
	s.out.u64(0)
	s.out.u64(0)
	s.out.u64(flags)
	return 0
}

func (t *Token) login(pin []byte) uint64 {
	t.Logins++
	switch {
	case t.Flags&ProtectedPath != 0 && pin == nil:
	case t.Tries == 0:
		t.Flags |= Locked
		return codeLocked
	case string(pin) != t.PIN:
		t.Tries--
		t.Flags |= CountLow
		if t.Tries == 1 {
			t.Flags |= FinalTry
		}
		if t.Tries == 0 {
			t.Flags |= Locked
		}
		return codePIN
	}
	t.in = true
	return 0
}

// found objects wait on the token until they are asked for.
func (t *Token) find(template map[uint32][]byte) {
	t.plain = nil
	for i, o := range t.Objects {
		fits := o.Private == nil || t.in || t.Flags&LoginRequired == 0
		for kind, value := range template {
			fits = fits && bytes.Equal(o.Attributes[kind], value)
		}
		if fits {
			t.plain = append(t.plain, byte(i))
		}
	}
}

func (s *serving) found(t *Token) {
	s.in.u32()
	s.out.add(1)
	s.out.u32(uint32(len(t.plain)))
	for _, i := range t.plain {
		s.out.u64(uint64(i))
	}
	t.plain = nil
}

func (s *serving) attributes() {
	t := s.tokens[s.in.u64()]
	o := s.in.u64()
	var values map[uint32][]byte
	if o >= 1000 { // the derived key
		values = map[uint32][]byte{0x11: t.plain}
	} else {
		values = t.Objects[o].Attributes
	}
	n := s.in.u32()
	s.out.u32(n)
	code := uint64(0)
	for range n {
		kind, room := s.in.u32(), s.in.u32()
		value, ok := values[kind]
		s.out.u32(kind)
		if !ok || len(value) > int(room) {
			s.out.add(0)
			code = 0x12
			continue
		}
		s.out.add(1)
		s.out.u32(uint32(len(value)))
		if isNumber(kind) || isTruth(kind) {
			s.out.add(value...)
		} else {
			s.out.bytes(value)
		}
	}
	s.out.u64(code)
}

func isNumber(kind uint32) bool { return kind == 0 || kind == 0x80 || kind == 0x100 }
func isTruth(kind uint32) bool {
	return kind == 1 || kind == 0x103 || kind == 0x105 || kind == 0x10c || kind == 0x162
}

// mechanism reads number and parameters as the version has them.
func (s *serving) mechanism() (number uint32, parameters [][]byte) {
	number = s.in.u32()
	if number == 1 {
		if s.version < 2 && s.in.bytes() != nil {
			panic("parameters for RSA")
		}
		return number, nil
	}
	if s.version >= 2 && s.in.byte() != 1 {
		panic("a mechanism without parameters")
	}
	if number == 9 {
		parameters = append(parameters, s.in.take(8), s.in.take(8), s.in.take(8), s.in.bytes())
	} else {
		parameters = append(parameters, s.in.take(8), s.in.bytes(), s.in.bytes())
	}
	return number, parameters
}

func (s *serving) decryptInit() uint64 {
	t := s.tokens[s.in.u64()]
	number, p := s.mechanism()
	key := s.in.u64()
	if !t.in && t.Flags&LoginRequired != 0 {
		return codeNoLogin
	}
	t.plain = []byte{byte(key), byte(number), 0}
	if number == 9 {
		hash := binary.BigEndian.Uint64(p[0])
		if hash == 0x250 {
			t.plain[2] = 1
			if t.OnlySHA1 {
				return codeParameter
			}
		}
		if mgf := binary.BigEndian.Uint64(p[1]); (mgf == 2) != (hash == 0x250) {
			panic("hash and mask differ")
		}
	}
	if number == 1 && t.NoPKCS1 {
		return codeMechanism
	}
	return 0
}

func (s *serving) decrypt() uint64 {
	t := s.tokens[s.in.u64()]
	data := s.in.array()
	s.in.u32()
	key, ok := t.Objects[t.plain[0]].Private.(*rsa.PrivateKey)
	if !ok {
		return codeHandle
	}
	var options crypto.DecrypterOpts // none is PKCS#1 v1.5
	if t.plain[1] == 9 {
		hash := crypto.SHA1
		if t.plain[2] == 1 {
			hash = crypto.SHA256
		}
		options = &rsa.OAEPOptions{Hash: hash}
	}
	plain, err := key.Decrypt(rand.Reader, data, options)
	if err != nil {
		return codeEncrypted
	}
	s.out.add(1)
	s.out.bytes(plain)
	return 0
}

func (s *serving) derive() uint64 {
	t := s.tokens[s.in.u64()]
	_, p := s.mechanism()
	key := s.in.u64()
	s.in.template()
	private, ok := t.Objects[key].Private.(*ecdh.PrivateKey)
	if !ok {
		return codeHandle
	}
	point := p[2]
	if t.Wrapped {
		var inner []byte
		if rest, err := asn1.Unmarshal(point, &inner); err != nil || len(rest) > 0 {
			return codeParameter
		}
		point = inner
	}
	if t.Compressed {
		var err error
		if point, err = decompress(private.Curve(), point); err != nil {
			return codeParameter
		}
	}
	public, err := private.Curve().NewPublicKey(point)
	if err != nil {
		return codeParameter
	}
	shared, err := private.ECDH(public)
	if err != nil {
		return codeParameter
	}
	if t.Stripped {
		shared = bytes.TrimLeft(shared, "\x00")
	}
	t.plain = shared
	s.out.u64(1000)
	return 0
}

var errPoint = errors.New("no compressed point")

// reader and writer know the wire; what does not fit panics.
type reader struct{ b []byte }

func (r *reader) take(n int) []byte {
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}
func (r *reader) byte() byte  { return r.take(1)[0] }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) bytes() []byte {
	n := r.u32()
	if n == 1<<32-1 {
		return nil
	}
	return r.take(int(n))
}
func (r *reader) array() []byte { r.byte(); return r.bytes() }

func (r *reader) template() map[uint32][]byte {
	m := map[uint32][]byte{}
	for range r.u32() {
		kind := r.u32()
		r.byte()
		r.u32()
		switch {
		case isNumber(kind):
			m[kind] = r.take(8)
		case isTruth(kind):
			m[kind] = r.take(1)
		default:
			m[kind] = r.bytes()
		}
	}
	return m
}

type writer struct{ b []byte }

func (w *writer) add(b ...byte)  { w.b = append(w.b, b...) }
func (w *writer) u32(v uint32)   { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)   { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) bytes(b []byte) { w.u32(uint32(len(b))); w.add(b...) }
func (w *writer) text(s string, n int) {
	w.bytes(append([]byte(s), bytes.Repeat([]byte{' '}, n-len(s))...))
}

// ID is an attribute id from hexadecimal.
func ID(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}
