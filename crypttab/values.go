package crypttab

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, errors.New("not a boolean")
}

// parseUint reads a number in the notation of C: decimal, octal with a leading
// zero, hexadecimal after 0x. Blanks and a plus sign may come first.
func parseUint(s string, bits int) (uint64, error) {
	v, err := strconv.ParseUint(strings.TrimPrefix(cleanNumber(s), "+"), 0, bits)
	if err != nil || strings.Contains(s, "_") {
		return 0, numberError(err)
	}
	return v, nil
}

func parseInt(s string) (int, error) {
	v, err := strconv.ParseInt(cleanNumber(s), 0, 32)
	if err != nil || strings.Contains(s, "_") {
		return 0, numberError(err)
	}
	return int(v), nil
}

func cleanNumber(s string) string { return strings.TrimLeft(s, " \t\n\r") }

func numberError(err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("number is out of range")
	}
	return errors.New("not a number")
}

// units are those of systemd.time(7), in microseconds. A month is a twelfth of
// a year of 365.25 days.
var units = map[string]uint64{
	"us": 1, "usec": 1, "µs": 1, "μs": 1,
	"ms": 1e3, "msec": 1e3,
	"": 1e6, "s": 1e6, "sec": 1e6, "second": 1e6, "seconds": 1e6,
	"m": 60e6, "min": 60e6, "minute": 60e6, "minutes": 60e6,
	"h": 3600e6, "hr": 3600e6, "hour": 3600e6, "hours": 3600e6,
	"d": 86400e6, "day": 86400e6, "days": 86400e6,
	"w": 604800e6, "week": 604800e6, "weeks": 604800e6,
	"M": 2629800e6, "month": 2629800e6, "months": 2629800e6,
	"y": 31557600e6, "year": 31557600e6, "years": 31557600e6,
}

var errNoTime = errors.New("not a time span")

// parseWait reads a time span in the syntax of systemd.time(7), such as "90",
// "1min 30s" or "infinity", where a bare number means seconds. For ever, which
// "0" means as well, is 0.
func parseWait(s string) (time.Duration, error) {
	s = strings.Trim(s, " \t\n\r")
	if s == "infinity" {
		return 0, nil
	}
	if s == "" {
		return 0, errNoTime
	}
	var total uint64
	for s != "" {
		span, rest, err := parseSpan(s)
		if err != nil {
			return 0, err
		}
		if total += span; total > math.MaxInt64/1000 {
			return 0, errors.New("time span is too long")
		}
		s = strings.TrimLeft(rest, " \t\n\r")
	}
	return time.Duration(total) * time.Microsecond, nil
}

// parseSpan reads one number and its unit, in microseconds. Fractions finer
// than that are cut off.
func parseSpan(s string) (microseconds uint64, rest string, err error) {
	whole, s := cutFunc(strings.TrimPrefix(s, "+"), isDigit)
	fraction := ""
	if strings.HasPrefix(s, ".") {
		if fraction, s = cutFunc(s[1:], isDigit); fraction == "" {
			return 0, "", errNoTime
		}
	}
	if whole == "" && fraction == "" {
		return 0, "", errNoTime
	}
	name, s := cutFunc(strings.TrimLeft(s, " \t\n\r"), isUnit)
	unit, known := units[name]
	if !known {
		return 0, "", fmt.Errorf("unknown unit of time %q", name)
	}
	var n uint64
	if whole != "" {
		if n, err = strconv.ParseUint(whole, 10, 64); err != nil {
			return 0, "", numberError(err)
		}
	}
	high, low := bits.Mul64(n, unit)
	if high != 0 || low > math.MaxInt64/1000 {
		return 0, "", errors.New("time span is too long")
	}
	for _, digit := range fraction {
		unit /= 10
		low += uint64(digit-'0') * unit
	}
	return low, s, nil
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

func isUnit(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == 'µ' || r == 'μ'
}

// cutFunc splits s after its longest beginning of characters that f accepts.
func cutFunc(s string, f func(rune) bool) (head, tail string) {
	tail = strings.TrimLeftFunc(s, f)
	return s[:len(s)-len(tail)], tail
}

const pcrCount = 24

// pcrNames are the names that systemd gives to registers.
var pcrNames = map[string]uint32{
	"platform-code": 0, "platform-config": 1, "external-code": 2, "external-config": 3,
	"boot-loader-code": 4, "boot-loader-config": 5, "host-platform": 6, "secure-boot-policy": 7,
	"kernel-initrd": 9, "ima": 10, "kernel-boot": 11, "kernel-config": 12, "sysexts": 13,
	"shim-policy": 14, "system-identity": 15, "debug": 16, "application-support": 23,
}

// parsePCRs reads registers by number or name, joined by "+" or ",", into a
// mask. A bank and a value may follow, as in 7:sha256=…; they are checked and
// dropped, since only which registers matters here.
func parsePCRs(s string) (uint32, error) {
	var mask uint32
	for _, item := range strings.FieldsFunc(s, func(r rune) bool { return r == '+' || r == ',' }) {
		register, bank, banked := strings.Cut(item, ":")
		n, named := pcrNames[register]
		if !named {
			v, err := parseUint(register, 32)
			if err != nil || v >= pcrCount {
				return 0, fmt.Errorf("there is no PCR %q", register)
			}
			n = uint32(v)
		}
		if banked {
			bank, value, _ := strings.Cut(strings.ToLower(bank), "=")
			_, err := hex.DecodeString(strings.TrimPrefix(value, "0x"))
			if !isBank(bank) || err != nil {
				return 0, fmt.Errorf("bank or value of PCR %q makes no sense", item)
			}
		}
		mask |= 1 << n
	}
	return mask, nil
}

func isBank(name string) bool {
	switch name {
	case "sha1", "sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512", "sm3":
		return true
	}
	return false
}
