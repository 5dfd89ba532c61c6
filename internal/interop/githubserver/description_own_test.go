package githubserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop/githubserver"
)

// A description of our own, with the forms that GitHub's has.
const description = `{"openapi":"3.0.3","paths":{
"/things/{id}":{"post":{
  "parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"integer"}},{"name":"name","in":"query","required":true,"schema":{"type":"string"}}],
  "requestBody":{"required":true,"content":{"application/json":{"schema":{"type":"object","required":["a"],"properties":{"a":{"type":"string","enum":["x","y"]},"n":{"type":"integer","nullable":true}}}}}},
  "responses":{"201":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/thing"}}}},"204":{}}}},
"/things/mine":{"get":{"responses":{"204":{}}}}},
"components":{"schemas":{"basic-error":{"type":"object","properties":{"message":{"type":"string"}}},
  "thing":{"type":"object","required":["when","at"],"properties":{"when":{"type":"string","format":"date-time"},"at":{"type":"string","format":"uri"},
    "list":{"type":"array","items":{"oneOf":[{"type":"string"},{"type":"integer"}]}},"more":{"type":"object","additionalProperties":{"type":"boolean"}}}},
  "odd":{"type":"string","maxLength":3}}}}`

func TestDescriptionHandler(t *testing.T) {
	file := filepath.Join(t.TempDir(), "api.json")
	require.NoError(t, os.WriteFile(file, []byte(description), 0o600))
	d, err := githubserver.Load(file)
	require.NoError(t, err)
	const good = `{"when":"2026-11-26T05:00:00Z","at":"https://example.com","list":["a",1],"more":{"x":true}}`
	for name, test := range map[string]struct {
		method, target, kind, body string
		status                     int
		answerKind, answer         string
		want                       string
	}{
		"good":            {"POST", "/things/1?name=x", "application/json", `{"a":"x","n":null}`, 201, "application/json; charset=utf-8", good, ""},
		"fixed part":      {"GET", "/things/mine", "", "", 204, "", "", ""},
		"refused":         {"POST", "/things/1?name=x", "application/json", `{"a":"x"}`, 422, "application/json", `{"message":"x"}`, ""},
		"path":            {"GET", "/other", "", "", 204, "", "", "GET /other: GET /other is not in the description"},
		"method":          {"DELETE", "/things/mine", "", "", 204, "", "", "not in the description"},
		"id":              {"POST", "/things/x?name=x", "application/json", `{"a":"x"}`, 204, "", "", "id: json.Number is no integer"},
		"no name":         {"POST", "/things/1", "application/json", `{"a":"x"}`, 204, "", "", "parameter name is missing"},
		"parameter":       {"POST", "/things/1?name=x&nmae=y", "application/json", `{"a":"x"}`, 204, "", "", "parameter nmae is not"},
		"no body":         {"POST", "/things/1?name=x", "application/json", ``, 204, "", "", "EOF"},
		"body":            {"GET", "/things/mine", "application/json", `{}`, 204, "", "", "a body is not"},
		"type of body":    {"POST", "/things/1?name=x", "text/plain", `{"a":"x"}`, 204, "", "", `Content-Type "text/plain" is not`},
		"missing":         {"POST", "/things/1?name=x", "application/json", `{"n":1}`, 204, "", "", "request: a is missing"},
		"member":          {"POST", "/things/1?name=x", "application/json", `{"a":"x","b":1}`, 204, "", "", "request: member b is not"},
		"enum":            {"POST", "/things/1?name=x", "application/json", `{"a":"z"}`, 204, "", "", "request.a: z is none of [x y]"},
		"fraction":        {"POST", "/things/1?name=x", "application/json", `{"a":"x","n":1.5}`, 204, "", "", "request.n: json.Number is no integer"},
		"two values":      {"POST", "/things/1?name=x", "application/json", `{"a":"x"} {}`, 204, "", "", "more than one value"},
		"status":          {"GET", "/things/mine", "", "", 200, "", "", "answer 200 is not in the description"},
		"answer to 204":   {"POST", "/things/1?name=x", "application/json", `{"a":"x"}`, 201, "text/html", good, `answer 201 is "text/html"`},
		"date":            {"POST", "/things/1?name=x", "application/json", `{"a":"x"}`, 201, "application/json", strings.Replace(good, "T05", " 05", 1), "answer 201.when:"},
		"uri":             {"POST", "/things/1?name=x", "application/json", `{"a":"x"}`, 201, "application/json", strings.Replace(good, "https://", "", 1), "answer 201.at:"},
		"one of":          {"POST", "/things/1?name=x", "application/json", `{"a":"x"}`, 201, "application/json", strings.Replace(good, `"a",1`, `true`, 1), "answer 201.list[0]: fits 0 of oneOf"},
		"further members": {"POST", "/things/1?name=x", "application/json", `{"a":"x"}`, 201, "application/json", strings.Replace(good, `"x":true`, `"x":1`, 1), "answer 201.more.x: json.Number is no boolean"},
	} {
		t.Run(name, func(t *testing.T) {
			var faults []error
			handler := d.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.answerKind)
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.answer))
			}), func(path string) string { return path }, func(err error) { faults = append(faults, err) })
			r := httptest.NewRequest(test.method, test.target, strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.kind)
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			require.Equal(t, test.status, w.Code)
			require.Equal(t, test.answer, w.Body.String())
			if test.want == "" {
				require.Empty(t, faults)
				return
			}
			require.Len(t, faults, 1)
			require.ErrorContains(t, faults[0], test.want)
		})
	}
	require.ErrorContains(t, d.Check("x", "odd"), "keyword maxLength is not known")
	require.NoError(t, d.Check(map[string]any{"message": "x", "other": json.Number("1")}, "basic-error"))
}
