package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"reflect"
	"strings"
	"sync"

	"github.com/okd-project/okd-streams/publish"
)

// Limits of the documents of a [Book].
const (
	// MaxResults bounds the results of one release.
	MaxResults = 10_000
	// BookVersion is that of the documents' format.
	BookVersion = 1
	// attempts is how often a document is written at most while others write
	// it too: many gates of a release end at about the same time.
	attempts = 30
)

// Book keeps results in a store. The zero value with a Store is useful.
type Book struct {
	Store publish.Store
	// Prefix is put before the keys, "" or ending in "/". A document is at
	// PREFIXgates/HEX.json, where HEX is of the release image's digest.
	Prefix string
	// Jitter gives values in [0,1) that shorten the waits between attempts to
	// write a document that others write too; nil: whole waits.
	Jitter func() float64
}

// document is what the store has of a release.
type document struct {
	Version int      `json:"version"`
	Subject Subject  `json:"subject"`
	Results []Result `json:"results"` // oldest first
}

// Record adds results, each to the document of its subject. A result that is
// the last of its gate already, time and all, is not added again, so that a
// record whose answer was lost may be repeated. Nothing is recorded unless every
// result can be.
func (b Book) Record(ctx context.Context, results ...Result) error {
	var order []string
	bySubject := map[string][]Result{}
	for _, r := range results {
		if err := r.check(); err != nil {
			return &Error{Op: "record", Target: fmt.Sprintf("gate %.80q", r.Gate), Err: err}
		}
		if bySubject[r.Subject.Digest] == nil {
			order = append(order, r.Subject.Digest)
		}
		bySubject[r.Subject.Digest] = append(bySubject[r.Subject.Digest], r.canonical())
	}
	for _, digest := range order {
		list := bySubject[digest]
		_, err := publish.Update(ctx, b.Store, b.key(digest), func(old []byte) ([]byte, error) {
			return add(old, list)
		}, &publish.UpdateOptions{ContentType: "application/json", Attempts: attempts, Jitter: b.Jitter})
		if err != nil {
			return &Error{Op: "record", Target: list[0].Subject.Release, Err: err}
		}
	}
	return nil
}

// canonical is the result as JSON gives it back.
func (r Result) canonical() Result {
	r.At, r.Expires = r.At.UTC().Round(0), r.Expires.UTC().Round(0)
	if len(r.Evidence) == 0 {
		r.Evidence = nil
	}
	list := make([]Evidence, len(r.Evidence))
	for i, e := range r.Evidence {
		e.At = e.At.UTC().Round(0)
		list[i] = e
	}
	if len(list) > 0 {
		r.Evidence = list
	}
	return r
}

func add(old []byte, results []Result) ([]byte, error) {
	d := &document{Version: BookVersion, Subject: results[0].Subject}
	if old != nil {
		var err error
		if d, err = decode(old); err != nil {
			return nil, err
		}
		if d.Subject.Digest != results[0].Subject.Digest {
			return nil, fmt.Errorf("the document is of %s", d.Subject.Digest)
		}
	}
	n := len(d.Results)
	for _, r := range results {
		if last := d.last(r.Gate); last == nil || !reflect.DeepEqual(*last, r) {
			d.Results = append(d.Results, r)
		}
	}
	if len(d.Results) == n && old != nil {
		return old, nil
	}
	if len(d.Results) > MaxResults {
		return nil, fmt.Errorf("%d results, limit %d", len(d.Results), MaxResults)
	}
	data, err := json.MarshalIndent(d, "", "  ")
	return append(data, '\n'), err
}

func (d *document) last(gate string) *Result {
	for i := len(d.Results) - 1; i >= 0; i-- {
		if d.Results[i].Gate == gate {
			return &d.Results[i]
		}
	}
	return nil
}

// Results gives all results of an image, oldest first; none is no error.
func (b Book) Results(ctx context.Context, digest string) ([]Result, error) {
	if err := checkDigest("digest", digest); err != nil {
		return nil, &Error{Op: "read", Target: "results", Err: err}
	}
	d, err := b.document(ctx, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return d.Results, nil
}

// History is what a book has of one image.
type History struct {
	// Subject is the image with its name when the first result was recorded.
	Subject Subject
	Results []Result // oldest first
	// Fault is why the document cannot be read; then there are no results, and
	// Subject has the digest alone.
	Fault error
}

// All gives every image of the book, in the order of digests. A document that
// cannot be read is in [History.Fault]; an error is of the store's list, or the
// context's.
func (b Book) All(ctx context.Context) iter.Seq2[History, error] {
	return func(yield func(History, error) bool) {
		// Documents are small and stores far away: some are read at once.
		var list []History
		flush := func() bool {
			var wait sync.WaitGroup
			for i := range list {
				wait.Go(func() {
					digest := list[i].Subject.Digest
					d, err := b.document(ctx, digest)
					if err != nil {
						list[i].Fault = err
						return
					}
					list[i] = History{Subject: d.Subject, Results: d.Results}
				})
			}
			wait.Wait()
			if err := ctx.Err(); err != nil {
				yield(History{}, context.Cause(ctx))
				return false
			}
			for _, h := range list {
				if !yield(h, nil) {
					return false
				}
			}
			list = list[:0]
			return true
		}
		for info, err := range b.Store.List(ctx, b.Prefix+folder) {
			if err != nil {
				yield(History{}, err)
				return
			}
			hex, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, b.Prefix+folder), ".json")
			if !ok || checkDigest("", "sha256:"+hex) != nil {
				continue // not ours
			}
			if list = append(list, History{Subject: Subject{Digest: "sha256:" + hex}}); len(list) == readAhead && !flush() {
				return
			}
		}
		flush()
	}
}

// readAhead is how many documents are read at once.
const readAhead = 16

// folder is where documents are below a book's prefix.
const folder = "gates/"

func (b Book) key(digest string) string {
	return b.Prefix + folder + strings.TrimPrefix(digest, "sha256:") + ".json"
}

func (b Book) document(ctx context.Context, digest string) (*document, error) {
	key := b.key(digest)
	data, _, err := publish.ReadDocument(ctx, b.Store, key)
	if err != nil {
		return nil, err
	}
	d, err := decode(data)
	if err == nil && d.Subject.Digest != digest {
		err = fmt.Errorf("the document is of %s", d.Subject.Digest)
	}
	if err != nil {
		return nil, &Error{Op: "decode", Target: key, Err: err}
	}
	return d, nil
}

// decode reads a document and checks all of it, since verdicts come from it.
func decode(data []byte) (*document, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.Version != BookVersion {
		return nil, fmt.Errorf("version %d of the format: %w", head.Version, errors.ErrUnsupported)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	d := &document{}
	if err := dec.Decode(d); err != nil {
		return nil, err
	}
	if err := d.Subject.check(); err != nil {
		return nil, err
	}
	if len(d.Results) > MaxResults {
		return nil, fmt.Errorf("%d results, limit %d", len(d.Results), MaxResults)
	}
	for i := range d.Results {
		r := &d.Results[i]
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("results[%d]: %w", i, err)
		}
		if r.Subject.Digest != d.Subject.Digest {
			return nil, fmt.Errorf("results[%d]: it is of %s", i, r.Subject.Digest)
		}
		*r = r.canonical()
	}
	return d, nil
}
