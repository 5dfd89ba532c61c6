package bootimage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	releasemd "github.com/coreos/stream-metadata-go/release"
	streammd "github.com/coreos/stream-metadata-go/stream"
)

// FieldError is one fault of a document.
type FieldError struct {
	Document string // builds.json, meta.json, release.json, releases.json, stream, updates, …
	Path     string // of the value: builds[0].id; "" for the document
	Err      error
}

// Error names document, place and fault.
func (e *FieldError) Error() string {
	text := e.Err.Error()
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Document != "" {
		text = e.Document + ": " + text
	}
	return "bootimage: " + text
}

// Unwrap gives the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// Document is a JSON document and a view of it. The bytes are the truth: what
// the view does not know survives each [Document.Edit], as do order, number
// text, indentation and the end of the file.
type Document[T any] struct {
	head, tail string
	root       *value
	view       T
}

// Value is the view. It is for reading; change it with [Document.Edit].
func (d *Document[T]) Value() *T { return &d.view }

// Encode writes the document.
func (d *Document[T]) Encode(w io.Writer) error {
	if _, err := w.Write(d.Bytes()); err != nil {
		return fmt.Errorf("bootimage: write %s: %w", documentName[T](), err)
	}
	return nil
}

// Bytes is the document's text.
func (d *Document[T]) Bytes() []byte {
	var b strings.Builder
	b.WriteString(d.head)
	d.root.write(&b)
	b.WriteString(d.tail)
	return []byte(b.String())
}

// Edit calls fn with a view and applies to the document what fn changed in it.
// If fn fails, or the result is not a good document, nothing is changed. A
// value that was changed is written as T writes it; a pointer set to nil
// removes the key. Items of a list that were not changed keep what T does not
// know of them, wherever they move.
func (d *Document[T]) Edit(fn func(*T) error) error {
	old := d.Bytes()
	var view T
	if err := json.Unmarshal(old, &view); err != nil {
		return decodeError[T](err)
	}
	before, err := marshal(&view)
	if err != nil {
		return err
	}
	if err := fn(&view); err != nil {
		return err
	}
	after, err := marshal(&view)
	if err != nil {
		return err
	}
	next := Document[T]{head: d.head, tail: d.tail, root: styleOf(d.root).apply(d.root, before, after, "")}
	done, err := decode[T](next.Bytes())
	if err != nil {
		return err
	}
	*d = *done
	return nil
}

// changed is the document with another content, in its layout.
func (d *Document[T]) changed(root *value) (*Document[T], error) {
	next := Document[T]{head: d.head, tail: d.tail, root: styleOf(d.root).apply(d.root, d.root, root, "")}
	return decode[T](next.Bytes())
}

// NewDocument writes v as a new document, indented by four spaces with a
// newline at its end, as coreos-assembler and Fedora do.
func NewDocument[T any](v T) (*Document[T], error) {
	compact, err := marshal(&v)
	if err != nil {
		return nil, err
	}
	d := Document[T]{root: own.fresh(compact, "", true), tail: "\n"}
	return decode[T](d.Bytes())
}

// marshal gives v as T writes it.
func marshal[T any](v *T) (*value, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, &FieldError{Document: documentName[T](), Err: err}
	}
	_, root, _, err := parseJSON(b.Bytes())
	if err != nil {
		return nil, named[T](err)
	}
	return root, nil
}

// checker is what views have that know their rules.
type checker interface{ check() []error }

// decode reads and checks a document.
func decode[T any](data []byte) (*Document[T], error) {
	d := &Document[T]{}
	var err error
	if d.head, d.root, d.tail, err = parseJSON(data); err != nil {
		return nil, named[T](err)
	}
	if d.root.kind != '{' {
		return nil, &FieldError{Document: documentName[T](), Err: errors.New("not an object")}
	}
	if err := json.Unmarshal(data, &d.view); err != nil {
		return nil, decodeError[T](err)
	}
	var faults []error
	switch v := any(&d.view).(type) {
	case checker:
		faults = v.check()
	case *releasemd.Release:
		faults = checkRelease(v)
	case *streammd.Stream:
		faults = checkStream(v)
	case *releasemd.Index:
		faults = checkIndex(v)
	case *map[string]streammd.Stream:
		faults = checkStreams(*v)
	}
	for i, f := range faults {
		faults[i] = named[T](f)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return d, nil
}

func read[T any](r io.Reader) (*Document[T], error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxDocumentSize+1))
	if err != nil {
		return nil, fmt.Errorf("bootimage: read %s: %w", documentName[T](), err)
	}
	return decode[T](data)
}

// DecodeBuilds reads a builds.json. Documents have at most [MaxDocumentSize]
// bytes; faults are joined *[FieldError] values.
func DecodeBuilds(r io.Reader) (*Document[Builds], error) { return read[Builds](r) }

// DecodeMeta reads a meta.json, as [DecodeBuilds].
func DecodeMeta(r io.Reader) (*Document[Meta], error) { return read[Meta](r) }

// DecodeRelease reads a release.json, as [DecodeBuilds].
func DecodeRelease(r io.Reader) (*Document[releasemd.Release], error) {
	return read[releasemd.Release](r)
}

// DecodeStream reads stream metadata, as [DecodeBuilds].
func DecodeStream(r io.Reader) (*Document[streammd.Stream], error) { return read[streammd.Stream](r) }

func documentName[T any]() string {
	switch any((*T)(nil)).(type) {
	case *Builds:
		return "builds.json"
	case *Meta:
		return "meta.json"
	case *releasemd.Release:
		return "release.json"
	case *streammd.Stream:
		return "stream"
	case *releasemd.Index:
		return IndexFile
	case *Updates:
		return "updates"
	case *map[string]streammd.Stream:
		return "streams"
	case *CommitMeta:
		return CommitMetaFile
	case *Cleanup:
		return "policy-cleanup"
	case *Aleph:
		return AlephPath
	case *pin:
		return "rhcos.json"
	}
	return "document"
}

// named puts the document's name in.
func named[T any](err error) error {
	if f, ok := err.(*FieldError); ok {
		f.Document = documentName[T]()
		return f
	}
	return &FieldError{Document: documentName[T](), Err: err}
}

// decodeError gives the path of a value of the wrong type.
func decodeError[T any](err error) error {
	f := &FieldError{Document: documentName[T](), Err: err}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		f.Path = t.Field
		f.Err = fmt.Errorf("want %s, got %s", t.Type, t.Value)
	}
	return f
}

// update makes a change of a document as [publish.Update] takes it: old is nil
// or empty where there is none yet, and then start gives it.
func update[T any](start func() (*Document[T], error), change func(*Document[T]) error) func([]byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) {
		if len(old) == 0 {
			d, err := start()
			if err != nil {
				return nil, err
			}
			return d.Bytes(), nil
		}
		d, err := decode[T](old)
		if err != nil {
			return nil, err
		}
		if err := change(d); err != nil {
			return nil, err
		}
		return d.Bytes(), nil
	}
}
