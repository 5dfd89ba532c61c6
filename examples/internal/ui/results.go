package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Result is a value that a command leaves for a pipeline, in a file of that name.
type Result struct {
	Name  string
	Means string // for people
	// Text may be shortened: sentences and lists. What names something never is.
	Text bool
}

// Limits of results in bytes. Tekton takes 4096 for all results of a task, as it
// encodes them, and puts what it notes itself into the same message.
const (
	MaxResults = 4096
	engineSize = 512
	maxText    = 512 // of a result that is a text
)

// Results are the values of one run.
type Results struct {
	mu     sync.Mutex
	values map[string]string
}

type resultsKey struct{}

// WithResults has [SetResult] leave values in r.
func WithResults(ctx context.Context, r *Results) context.Context {
	return context.WithValue(ctx, resultsKey{}, r)
}

// SetResult leaves a value, in place of the one before, if somebody wants it.
func SetResult(ctx context.Context, name string, value any) {
	r, ok := ctx.Value(resultsKey{}).(*Results)
	if !ok {
		return
	}
	text := fmt.Sprint(value)
	if list, ok := value.([]string); ok {
		text = strings.Join(list, " ")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values == nil {
		r.values = map[string]string{}
	}
	r.values[name] = text
}

// Write makes the files in a folder, each there whole or not at all, without a
// newline at its end. A declared one without a value is empty, so that a pipeline
// that refers to it never finds none. Texts over 512 bytes are cut after a word,
// and end in " ..."; when all together are too many for Tekton nothing is written.
func (r *Results) Write(folder string, declared []Result) error {
	r.mu.Lock()
	values := maps.Clone(r.values)
	r.mu.Unlock()
	type entry struct {
		Key   string `json:"key"`
		Value string `json:"value"`
		Type  int    `json:"type"`
	}
	var all []entry
	longest := 0
	for i, d := range declared {
		value := values[d.Name]
		delete(values, d.Name)
		if d.Text {
			value = shorten(value)
		}
		all = append(all, entry{d.Name, value, 1})
		if len(value) > len(all[longest].Value) {
			longest = i
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		return fmt.Errorf("result %s is not among those of this command", name)
	}
	message, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if len(message) > MaxResults-engineSize {
		return Next(fmt.Errorf("the results are %d bytes as Tekton encodes them, of %d that a task may have; the longest is %s of %d", len(message), MaxResults-engineSize, all[longest].Key, len(all[longest].Value)),
			"what it says is done; take the result from --output json, or give shorter names")
	}
	for _, e := range all {
		if err := Output(nil, filepath.Join(folder, e.Key), func(w io.Writer) error { _, err := io.WriteString(w, e.Value); return err }); err != nil {
			return fmt.Errorf("result %s: %w", e.Key, err)
		}
	}
	return nil
}

// shorten makes one line of a text, cut after a word.
func shorten(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	if len(text) <= maxText {
		return text
	}
	const end = " ..."
	cut := text[:maxText-len(end)+1]
	if i := strings.LastIndexByte(cut, ' '); i > 0 {
		return cut[:i] + end
	}
	cut = cut[:len(cut)-1]
	for !utf8.ValidString(cut) {
		cut = cut[:len(cut)-1]
	}
	return cut + end
}
