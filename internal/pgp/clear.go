package pgp

import (
	"bytes"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// takeClear takes clear-signed text apart (RFC 4880 section 7): a first line,
// which digests are used, an empty line, the text with dashes escaped, and the
// signatures in armour.
func takeClear(data []byte, limit int64) (taken, []parsed, error) {
	none := func(format string, args ...any) (taken, []parsed, error) {
		return taken{}, nil, malformed(format, args...)
	}
	_, rest, _ := cutLine(data)
	for {
		line, next, ok := cutLine(rest)
		if !ok {
			return none("clear-signed text is cut off")
		}
		rest = next
		if len(line) == 0 {
			break
		}
		if !bytes.HasPrefix(line, []byte("Hash: ")) { // others would look signed and are not
			return none("header in clear-signed text")
		}
	}
	var t taken
	for first := true; ; first = false {
		line, next, ok := cutLine(rest)
		if !ok {
			return none("clear-signed text has no signature")
		}
		if bytes.HasPrefix(line, []byte("-----BEGIN "+blockSignature+"-----")) {
			break
		}
		rest = next
		if dashed, ok := bytes.CutPrefix(line, []byte("- ")); ok {
			line = dashed
		} else if bytes.HasPrefix(line, []byte("-")) {
			return none("line of clear-signed text begins with a dash")
		}
		line = bytes.TrimRight(line, " \t\r") // not signed
		if !first {
			t.signed = append(t.signed, "\r\n"...)
		}
		t.signed = append(t.signed, line...)
		t.data = append(append(t.data, line...), '\n')
		if int64(len(t.data)) > limit {
			return none("message holds more than %d bytes", limit)
		}
	}
	end := []byte("-----END " + blockSignature + "-----")
	if i := bytes.LastIndex(rest, end); i < 0 || len(bytes.TrimSpace(rest[i+len(end):])) > 0 {
		return none("something after the signature of clear-signed text")
	}
	sigs, err := parseDetached(rest)
	if err != nil {
		return taken{}, nil, err
	}
	for i, s := range sigs {
		if s.err == nil && s.sig.SigType != packet.SigTypeText {
			sigs[i].err = malformed("signature of clear text is of type 0x%02x", uint8(s.sig.SigType))
		}
	}
	if t.data == nil {
		t.data = []byte{}
	}
	return t, sigs, nil
}

// cutLine cuts the first line off, without its end.
func cutLine(data []byte) (line, rest []byte, ok bool) {
	line, rest, ok = bytes.Cut(data, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r")), rest, ok
}

// clearText is message as clear-signed text shows it and as it is signed.
func clearText(message string) (shown, signed string) {
	var show, sign strings.Builder
	lines := strings.Split(strings.TrimSuffix(message, "\n"), "\n")
	for i, line := range lines {
		line = strings.TrimRight(line, " \t\r")
		if strings.HasPrefix(line, "-") || strings.HasPrefix(line, "From ") {
			show.WriteString("- ")
		}
		show.WriteString(line + "\n")
		if i > 0 {
			sign.WriteString("\r\n")
		}
		sign.WriteString(line)
	}
	return show.String(), sign.String()
}
