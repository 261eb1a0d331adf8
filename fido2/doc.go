// Package fido2 opens and makes keyslots with FIDO2 security keys, with the
// tokens of type systemd-fido2.
//
// It is a CTAP 2.0 and 2.1 client of its own: framing over HID reports, PIN and
// user verification with both PIN protocols, credentials and assertions with the
// hmac-secret extension. A [Port] says where keys are plugged in, a [Conn]
// carries messages to one of them, and [Connect] makes a [Device] of that. All
// of it can be used without a volume.
//
// What it protects against: PINs and secrets cross the wire encrypted with a key
// that is agreed on anew for each use. What remains: the agreement is not
// authenticated, so a device that takes the place of the key can learn the PIN;
// it never learns what the true key would answer. The token in the header says
// whether PIN, touch and verification are asked for, and whoever can write to the
// header can change that, but the key itself keeps different secrets for users
// that it has verified and for those that it has not.
//
// It does not decide whether FIDO2 is tried before a passphrase, talks to nobody
// but a volume.Asker and the functions that it is given, and knows no fixed path.
//
// Format and protocol: Client to Authenticator Protocol (CTAP) 2.1, June 2022;
// the tokens: systemd, src/shared/cryptsetup-fido2.
package fido2
