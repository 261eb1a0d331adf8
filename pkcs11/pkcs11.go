// Package pkcs11 opens and makes keyslots that need the private key of a
// smartcard or another PKCS#11 token, with the tokens of type systemd-pkcs11.
//
// PKCS#11 modules are shared libraries of C. None is ever loaded into this
// program: `p11-kit remote MODULE` loads it in a child process, and we speak
// p11-kit's protocol with that child through pipes. A module that crashes or
// hangs costs an error, and what it answers is believed as little as what is
// read from a disk.
//
// It reads the tokens of every systemd from 248 to 262 and writes them as 257
// does. PINs go to the child through the pipe alone, never through its arguments
// or environment, and are never kept or shared.
//
// What it protects against: without the private key, which does not leave a
// token that is worth its name, the header is of no use. What remains: whoever
// can change the header can name another token and another key, which then
// opens nothing; whoever can replace a module, its configuration or p11-kit sees
// PIN and secret.
package pkcs11

import "errors"

// TokenType is the type of the tokens of this package in a header.
const TokenType = "systemd-pkcs11"

// What can stand between a token and its secret. The caller decides by these
// whether to go on, to wait, to ask or to stop.
var (
	ErrNoP11Kit  = errors.New("p11-kit is not installed")
	ErrNoModules = errors.New("no PKCS#11 module is configured")
	ErrNoToken   = errors.New("the security token is not there")
	ErrPIN       = errors.New("wrong PIN")
	ErrLocked    = errors.New("the PIN is locked")
	ErrNoKey     = errors.New("no fitting key on the security token")
	ErrSeveral   = errors.New("more than one fits")
	ErrTooOld    = errors.New("this p11-kit is too old for elliptic curves, 0.25 is needed")
	ErrResponse  = errors.New("the answer of the PKCS#11 module makes no sense")
	ErrGone      = errors.New("the PKCS#11 module has ended")
	ErrURI       = errors.New("not a usable PKCS#11 URI")
	ErrPINInURI  = errors.New("the PKCS#11 URI has a PIN in it")
)
