package stream_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/okd-project/okd-streams/stream"
	"github.com/stretchr/testify/require"
)

// documented is the annotated definition of the package comment.
func documented(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "//\t"); ok {
			b.WriteString(text)
		} else if line == "//\n" && b.Len() > 0 {
			b.WriteString("\n")
		}
	}
	return b.String()
}

// TestDocKeys: the package comment has every key that the types have.
func TestDocKeys(t *testing.T) {
	text := documented(t)
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(typ.Elem())
		case reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				if key := f.Tag.Get("yaml"); key != "" {
					require.Regexp(t, regexp.MustCompile(`(?m)[ {]`+key+`:|^`+key+`:`), text, "%s.%s", typ.Name(), f.Name)
					walk(f.Type)
				}
			}
		}
	}
	walk(reflect.TypeFor[stream.Definition]())
}

// TestDocDecodes: no key or type in the package comment is wrong. Other faults
// there are: it shows what excludes each other, and digests cut short.
func TestDocDecodes(t *testing.T) {
	text := strings.NewReplacer("credentials: …", "credentials: {secret: a}", "…", "...").Replace(documented(t))
	_, err := stream.Decode(strings.NewReader(text))
	faults := stream.Faults(err)
	require.NotEmpty(t, faults)
	for _, f := range faults {
		require.NotEmpty(t, f.Path, "%v", f)
		require.NotContains(t, f.Err.Error(), "unknown", "%v", f)
		require.NotContains(t, f.Err.Error(), "want ", "%v", f)
		require.NotContains(t, f.Err.Error(), "missing", "%v", f)
	}
}
