package ask

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lockport/lockport/secret"
	"github.com/lockport/lockport/volume"
)

// maxTyped is the longest secret that can be typed, in bytes: LINE_MAX, where
// the original stops.
const maxTyped = 2048

const (
	hintSilent = "(press TAB for no echo) "
	saySilent  = "(no echo) "
	bell       = "\a"
)

// keys are the control characters that the terminal is set to; 0 is none.
type keys struct{ interrupt, quit, suspend, eof, erase, kill, word byte }

// action is what a key means to the prompt.
type action int

const (
	goOn action = iota
	enter
	giveUp
	interrupt
	suspend
)

// editor is the line that is being typed. Bytes are read right into its secret:
// read into slot, then call press.
type editor struct {
	out    io.Writer
	prompt string // as shown
	mark   string // for a character that must not be seen
	keys   keys

	line   *secret.Bytes // maxTyped bytes and a slot
	n      int           // bytes typed
	shown  int           // of these, bytes of characters that are shown
	plain  bool          // the characters themselves are shown
	silent bool          // nothing is shown
	hint   bool          // the hint stands behind the prompt
	dirty  bool          // something was typed
	full   bool          // something typed had no room
}

// newEditor shows the prompt. Its owner wipes line, or takes it with finish.
func newEditor(out io.Writer, prompt string, echo volume.Echo, mark string, k keys) *editor {
	e := &editor{out: out, prompt: prompt, mark: mark, keys: k, line: secret.New(maxTyped + 1)}
	e.plain = echo == volume.EchoPlain
	e.silent = echo == volume.EchoNone
	e.hint = echo == volume.EchoMasked
	e.draw()
	return e
}

// draw shows the prompt and what has been typed so far.
func (e *editor) draw() {
	e.write(e.prompt + " ")
	switch {
	case e.hint:
		e.write(hintSilent)
	case e.silent && e.dirty:
		e.write(saySilent)
	}
	e.shown = 0
	e.show(e.n) // not up to what was shown: its last character may need the next bytes to count as complete
}

func (e *editor) slot() []byte { return e.line.Reveal()[e.n : e.n+1] }

// press acts on the byte in the slot.
func (e *editor) press() action {
	c := e.slot()[0]
	if e.hint {
		e.hint = false
		e.rubOut(len(hintSilent))
	}
	switch {
	case c == '\n' || c == '\r' || c == 0:
		return enter
	case c == e.keys.eof:
		return giveUp
	case c == e.keys.interrupt, c == e.keys.quit:
		return interrupt
	case c == e.keys.suspend:
		return suspend
	case c == e.keys.kill:
		e.eraseTo(0)
		e.full = false
	case c == e.keys.word:
		e.eraseTo(e.wordStart())
	case c == '\b' || c == 0x7f || c == e.keys.erase:
		e.backspace()
	case c == '\t' && !e.silent:
		e.hush()
	case e.n == maxTyped:
		e.full = true
		e.write(bell)
	default:
		e.n++
		e.dirty = true
		e.show(e.n)
	}
	return goOn
}

// finish takes the line as the answer. The caller wipes it.
func (e *editor) finish() (*secret.Bytes, error) {
	if e.full {
		return nil, fmt.Errorf("an answer of more than %d bytes: %w", maxTyped, secret.ErrTooLong)
	}
	line := e.line
	e.line = nil
	line.Shrink(e.n)
	return line, nil
}

// show shows the characters up to byte end that are complete.
func (e *editor) show(end int) {
	line := e.line.Reveal()
	for e.shown < end && utf8.FullRune(line[e.shown:end]) {
		r, n := utf8.DecodeRune(line[e.shown:end])
		switch {
		case e.silent:
		case !e.plain:
			e.write(e.mark)
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			e.write("?")
		default:
			_, _ = e.out.Write(line[e.shown : e.shown+n])
		}
		e.shown += n
	}
}

// backspace takes one character away. As the first key it means silence.
func (e *editor) backspace() {
	switch {
	case e.n > e.shown: // a character that is not complete
		e.eraseTo(e.shown)
	case e.n > 0:
		_, size := utf8.DecodeLastRune(e.line.Reveal()[:e.n])
		e.eraseTo(e.n - size)
	case !e.dirty && !e.silent:
		e.hush()
	default:
		e.write(bell)
	}
}

// hush hides what is typed, from its beginning.
func (e *editor) hush() {
	if !e.silent {
		e.rubOut(utf8.RuneCount(e.line.Reveal()[:e.shown]))
	}
	e.silent, e.dirty = true, true
	e.write(saySilent)
}

// eraseTo cuts the line back to n bytes, which end a character.
func (e *editor) eraseTo(n int) {
	line := e.line.Reveal()
	if !e.silent && n < e.shown {
		e.rubOut(utf8.RuneCount(line[n:e.shown]))
	}
	clear(line[n:])
	e.n, e.shown = n, min(e.shown, n)
}

// wordStart returns where the last word begins.
func (e *editor) wordStart() int {
	line := e.line.Reveal()[:e.shown]
	end := len(line)
	for end > 0 && line[end-1] == ' ' {
		end--
	}
	for end > 0 && line[end-1] != ' ' {
		end--
	}
	return end
}

func (e *editor) rubOut(characters int) { e.write(strings.Repeat("\b \b", characters)) }

func (e *editor) write(text string) { _, _ = io.WriteString(e.out, text) }
