package publish

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"
)

// MaxKeySize is the length of the longest key, in bytes (as S3 has it).
const MaxKeySize = 1024

// CheckKey reports why key cannot name an object of a [Store]; the error wraps
// [io/fs.ErrInvalid].
func CheckKey(key string) error {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("key %.80q: "+format+": %w", append([]any{key}, append(args, fs.ErrInvalid)...)...)
	}
	switch {
	case key == "":
		return fmt.Errorf("empty key: %w", fs.ErrInvalid)
	case len(key) > MaxKeySize:
		return fault("%d bytes, at most %d are allowed", len(key), MaxKeySize)
	case !utf8.ValidString(key):
		return fault("not UTF-8")
	}
	for _, r := range key {
		if r < 0x20 || r == 0x7f || r == '\\' {
			return fault("character %U", r)
		}
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch segment {
		case "":
			return fault("empty segment")
		case ".", "..":
			return fault("segment %q", segment)
		}
	}
	return nil
}

// CheckPut gives the options of a [Store.Put] by value, or reports why the call
// cannot be served by any store; the error wraps [io/fs.ErrInvalid]. It is for
// backends.
func CheckPut(key string, src Source, opts *PutOptions) (PutOptions, error) {
	var o PutOptions
	if opts != nil {
		o = *opts
	}
	if err := CheckKey(key); err != nil {
		return o, err
	}
	if src == nil {
		return o, fmt.Errorf("no source: %w", fs.ErrInvalid)
	}
	if src.Size() < 0 {
		return o, fmt.Errorf("source of %d bytes: %w", src.Size(), fs.ErrInvalid)
	}
	if o.SHA256 != "" && !isSHA256(o.SHA256) {
		return o, fmt.Errorf("%.80q is no lower-case hexadecimal SHA-256: %w", o.SHA256, fs.ErrInvalid)
	}
	if o.IfAbsent && o.IfRevision != "" {
		return o, fmt.Errorf("IfAbsent and IfRevision: %w", fs.ErrInvalid)
	}
	return o, nil
}

func isSHA256(s string) bool {
	if len(s) != 64 || strings.ToLower(s) != s {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}
