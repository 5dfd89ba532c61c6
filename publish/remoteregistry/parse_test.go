package remoteregistry_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func TestNextLink(t *testing.T) {
	t.Parallel()
	for want, headers := range map[string][]string{
		"/a":      {`</a>; rel="next"`},
		"/b":      {`</x>; rel=prev, </b>; rel=next`},
		"/c?n=1,": {`</x>;title="a,b <q>; rel=next";rel="prev", </c?n=1,>;REL="last next"`},
		"/d":      {`</x>; rel="prev"`, `</d> ; rel = "next"`},
		"":        {`</x>`, `</x; rel="next"`, `x>; rel="next"`, `</x>; rel="nextx"`, ``, `,,;;"`},
	} {
		require.Equal(t, want, remoteregistry.NextLink(headers), "%q", headers)
	}
}

func TestUploaded(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"": 0, "0--1": 0, "0-9": 10, "bytes=0-9": 10,
		"0-0": -1, "1-9": -1, "0-": -1, "0-x": -1, "0--2": -1, "0-9223372036854775807": -1, "0-99999999999999999999": -1, "9": -1,
	} {
		n, ok := remoteregistry.Uploaded(text)
		require.Equal(t, want >= 0, ok, text)
		if ok {
			require.Equal(t, want, n, text)
		}
	}
}

func FuzzNextLink(f *testing.F) {
	f.Add(`</v2/okd/a/tags/list?n=1&last=x>; rel="next"`, `<x>; rel="a,b"`)
	f.Add(`<<>>;;,,rel="next"`, `"`)
	f.Fuzz(func(t *testing.T, a, b string) {
		var got string
		fuzzbound.Linear(t, len(a)+len(b), 64, func() { got = remoteregistry.NextLink([]string{a, b}) })
		require.True(t, strings.Contains(a, "<"+got+">") || strings.Contains(b, "<"+got+">") || got == "")
		if !strings.ContainsAny(a+"<>,;\"", "\x00") && !strings.ContainsAny(a, `<>,;"`) {
			require.Equal(t, a, remoteregistry.NextLink([]string{"<" + a + `>; rel="next"`}))
		}
	})
}

func FuzzUploaded(f *testing.F) {
	f.Add("0-10")
	f.Add("bytes=0--1")
	f.Fuzz(func(t *testing.T, text string) {
		var n int64
		var ok bool
		fuzzbound.Linear(t, len(text), 8, func() { n, ok = remoteregistry.Uploaded(text) })
		require.GreaterOrEqual(t, n, int64(0))
		if ok && n > 0 {
			require.Contains(t, text, strconv.FormatInt(n-1, 10))
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add("not topsecret\n\x1b[31m Bearer abcdefghijkl", "topsecret")
	f.Add("top\x1bsecret\x1b \x1b", "top secret  ")
	f.Fuzz(func(t *testing.T, text, secret string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://registry.example/", nil)
		require.NoError(t, err)
		req.SetBasicAuth("core", secret)
		var got string
		fuzzbound.Linear(t, len(text)+len(secret), 512, func() { got = remoteregistry.Printable(text, req) })
		require.LessOrEqual(t, len(got), 310)
		if utf8.ValidString(text) {
			require.True(t, utf8.ValidString(got))
		}
		require.False(t, strings.ContainsAny(got, "\n\r\x1b\x00"))
		if len(secret) > 10 {
			// A secret that ends with RED is no secret beside REDACTED.
			between := strings.Repeat("\x00", len(secret)+1)
			require.NotContains(t, strings.NewReplacer("REDACTED", between, "…", between).Replace(got), secret)
		}
	})
}

func FuzzEditIndex(f *testing.F) {
	mutants.Add(f,
		`{"schemaVersion":2,"manifests":[{"digest":"sha256:aa","x":1.50}],"x-unknown":"<kept>"}`,
		`{"manifests":null}`,
		`{"manifests":[{"in":{"digest":"sha256:0123"}}],"x":[{"digest":"sha256:0123"}]}`,
		`null`,
	)
	f.Fuzz(func(t *testing.T, raw []byte) {
		const added = "sha256:0123"
		var more []byte
		var changed bool
		var err error
		fuzzbound.Linear(t, len(raw), 512, func() { more, changed, err = remoteregistry.EditIndex(raw, added, "") })
		if err != nil {
			return
		}
		require.True(t, changed)
		var doc map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(more, &doc))
		require.Contains(t, string(doc["manifests"]), added)
		var before map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &before))
		for key := range before {
			require.Contains(t, doc, key, "what others wrote is kept")
		}
		less, changed, err := remoteregistry.EditIndex(more, "", added)
		require.NoError(t, err)
		require.True(t, changed)
		doc = nil
		require.NoError(t, json.Unmarshal(less, &doc))
		var entries []json.RawMessage
		require.NoError(t, json.Unmarshal(doc["manifests"], &entries))
		for _, e := range entries {
			var one struct {
				Digest string `json:"digest"`
			}
			if json.Unmarshal(e, &one) == nil {
				require.NotEqual(t, added, one.Digest)
			}
		}
		require.LessOrEqual(t, len(less), 6*len(raw)+100)
		_, changed, err = remoteregistry.EditIndex(less, "", added)
		require.NoError(t, err)
		require.False(t, changed)
	})
}
