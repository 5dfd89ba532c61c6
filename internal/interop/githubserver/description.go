package githubserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Description is an OpenAPI 3.0 description. It knows the part of JSON Schema that
// GitHub's description of releases and Apps uses; a keyword beyond that is a
// fault, so that none is passed over.
type Description struct {
	paths      map[string]map[string]json.RawMessage
	components map[string]map[string]json.RawMessage
	parsed     map[string]any // references
	templates  []template
}

// template is a path of the description with its variables.
type template struct {
	path    string
	pattern *regexp.Regexp
	names   []string
}

// Load reads a description.
func Load(path string) (*Description, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		OpenAPI    string
		Paths      map[string]map[string]json.RawMessage
		Components map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !strings.HasPrefix(file.OpenAPI, "3.0.") {
		return nil, fmt.Errorf("%s: OpenAPI %q", path, file.OpenAPI)
	}
	d := &Description{paths: file.Paths, components: file.Components, parsed: map[string]any{}}
	for path := range d.paths {
		t := template{path: path}
		pattern := regexp.QuoteMeta(path)
		for _, m := range reVariable.FindAllStringSubmatch(path, -1) {
			pattern = strings.Replace(pattern, regexp.QuoteMeta(m[0]), `([^/]+)`, 1)
			t.names = append(t.names, m[1])
		}
		if t.pattern, err = regexp.Compile("^" + pattern + "$"); err != nil {
			return nil, err
		}
		d.templates = append(d.templates, t)
	}
	// Those with the most fixed parts first.
	slices.SortFunc(d.templates, func(a, b template) int {
		return cmp.Or(cmp.Compare(len(a.names), len(b.names)), strings.Compare(a.path, b.path))
	})
	return d, nil
}

type object = map[string]any

// decode keeps numbers as they are written.
func decode(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return v, nil
}

// resolve follows a reference.
func (d *Description) resolve(v any) (object, error) {
	o, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("%v is no object of the description", v)
	}
	ref, ok := o["$ref"].(string)
	if !ok {
		return o, nil
	}
	to, ok := d.parsed[ref]
	if !ok {
		parts := strings.Split(strings.TrimPrefix(ref, "#/components/"), "/")
		if len(parts) != 2 || d.components[parts[0]][parts[1]] == nil {
			return nil, fmt.Errorf("reference %q leads nowhere", ref)
		}
		var err error
		if to, err = decode(d.components[parts[0]][parts[1]]); err != nil {
			return nil, err
		}
		d.parsed[ref] = to
	}
	return d.resolve(to)
}

// Example gives the value of an example of the description.
func (d *Description) Example(name string) (any, error) {
	o, err := d.resolve(object{"$ref": "#/components/examples/" + name})
	return o["value"], err
}

// Check holds a value, as encoding/json gives it with numbers as [json.Number],
// to a schema of the description.
func (d *Description) Check(value any, schema string) error {
	return d.check(value, object{"$ref": "#/components/schemas/" + schema}, "", false)
}

// annotations are keywords that do not constrain.
var annotations = []string{"title", "description", "example", "examples", "default", "deprecated", "externalDocs", "readOnly"}

// check holds a value to a schema; strict also refuses members that it does not
// name. at is where the value is.
func (d *Description) check(value any, schemaValue any, at string, strict bool) error {
	schema, err := d.resolve(schemaValue)
	if err != nil {
		return err
	}
	if value == nil && schema["nullable"] == true {
		return nil
	}
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: "+format, append([]any{at}, args...)...))
	}
	for _, keyword := range slices.Sorted(maps.Keys(schema)) {
		rule := schema[keyword]
		switch keyword {
		case "type":
			if !isType(value, rule.(string)) {
				fault("%T is no %s", value, rule)
			}
		case "enum":
			if !slices.Contains(rule.([]any), value) && !(strings.HasSuffix(at, ".state") && value == "starter") {
				// The description of the upload itself names the state "starter".
				fault("%v is none of %v", value, rule)
			}
		case "format":
			text, isText := value.(string)
			switch rule {
			case "date-time":
				if _, err := time.Parse(time.RFC3339, text); isText && err != nil {
					fault("%q is no date-time", text)
				}
			case "uri":
				if u, err := url.Parse(text); isText && (err != nil || u.Scheme == "") {
					fault("%q is no uri", text)
				}
			case "int64", "binary":
			default:
				fault("format %v is not known", rule)
			}
		case "required":
			members, _ := value.(object)
			for _, name := range rule.([]any) {
				if _, ok := members[name.(string)]; members != nil && !ok {
					fault("%v is missing", name)
				}
			}
		case "properties":
			members, _ := value.(object)
			for _, name := range slices.Sorted(maps.Keys(members)) {
				if of, ok := rule.(object)[name]; ok {
					if err := d.check(members[name], of, at+"."+name, strict); err != nil {
						faults = append(faults, err)
					}
				} else if strict && schema["additionalProperties"] == nil {
					fault("member %s is not in the description", name)
				}
			}
		case "additionalProperties":
			members, _ := value.(object)
			known, _ := schema["properties"].(object)
			for _, name := range slices.Sorted(maps.Keys(members)) {
				switch {
				case known[name] != nil || rule == true:
				case rule == false:
					fault("member %s is not allowed", name)
				default:
					if err := d.check(members[name], rule, at+"."+name, strict); err != nil {
						faults = append(faults, err)
					}
				}
			}
		case "items":
			list, _ := value.([]any)
			for i, item := range list {
				if err := d.check(item, rule, at+"["+strconv.Itoa(i)+"]", strict); err != nil {
					faults = append(faults, err)
				}
			}
		case "oneOf", "anyOf":
			fits := 0
			for _, of := range rule.([]any) {
				if d.check(value, of, at, strict) == nil {
					fits++
				}
			}
			if fits == 0 || keyword == "oneOf" && fits > 1 {
				fault("fits %d of %s", fits, keyword)
			}
		case "nullable":
		default:
			if !slices.Contains(annotations, keyword) && !strings.HasPrefix(keyword, "x-") {
				fault("keyword %s is not known", keyword)
			}
		}
	}
	return errors.Join(faults...)
}

func isType(value any, want string) bool {
	switch want {
	case "object":
		_, ok := value.(object)
		return ok
	case "array":
		_, ok := value.([]any)
		return ok
	case "string":
		_, ok := value.(string)
		return ok
	case "boolean":
		_, ok := value.(bool)
		return ok
	case "integer", "number":
		n, ok := value.(json.Number)
		if ok && want == "integer" {
			_, err := n.Int64()
			ok = err == nil
		}
		return ok
	}
	return false
}

// operation finds what a request is about: the path of the description with the
// most fixed parts, and the values of its variables.
func (d *Description) operation(method, path string) (object, map[string]string, error) {
	best, values := "", map[string]string{}
	for _, t := range d.templates {
		m := t.pattern.FindStringSubmatch(path)
		if m == nil {
			continue
		}
		best = t.path
		for i, name := range t.names {
			value, err := url.PathUnescape(m[i+1])
			if err != nil {
				return nil, nil, err
			}
			values[name] = value
		}
		break
	}
	if method == http.MethodHead { // wherever there is GET
		method = http.MethodGet
	}
	data := d.paths[best][strings.ToLower(method)]
	if data == nil {
		return nil, nil, fmt.Errorf("%s %s is not in the description", method, path)
	}
	v, err := decode(data)
	if err != nil {
		return nil, nil, err
	}
	return v.(object), values, nil
}

var reVariable = regexp.MustCompile(`\{([^}]+)\}`)

// request holds a request to its operation.
func (d *Description) request(op object, values map[string]string, r *http.Request, body []byte) error {
	var faults []error
	query := r.URL.Query()
	known := map[string]bool{}
	parameters, _ := op["parameters"].([]any)
	for _, p := range parameters {
		parameter, err := d.resolve(p)
		if err != nil {
			return err
		}
		name, _ := parameter["name"].(string)
		text, given := values[name], true
		if parameter["in"] == "query" {
			known[name], text, given = true, query.Get(name), query.Has(name)
		}
		if !given {
			if parameter["required"] == true {
				faults = append(faults, fmt.Errorf("parameter %s is missing", name))
			}
			continue
		}
		schema, err := d.resolve(parameter["schema"])
		if err != nil {
			return err
		}
		var value any = text
		if schema["type"] == "integer" {
			value = json.Number(text)
		}
		if err := d.check(value, schema, name, true); err != nil {
			faults = append(faults, err)
		}
	}
	for name := range query {
		if !known[name] {
			faults = append(faults, fmt.Errorf("parameter %s is not in the description", name))
		}
	}
	described, _ := op["requestBody"].(object)
	if described == nil {
		if len(body) > 0 {
			faults = append(faults, errors.New("a body is not in the description"))
		}
		return errors.Join(faults...)
	}
	content, _ := described["content"].(object)
	media, isJSON := content["application/json"].(object)
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case len(body) == 0 && described["required"] != true:
	case err != nil:
		faults = append(faults, fmt.Errorf("Content-Type %q: %w", r.Header.Get("Content-Type"), err))
	case !isJSON: // raw bytes: any type, as the text of the description says
	case kind != "application/json":
		faults = append(faults, fmt.Errorf("Content-Type %q is not in the description", kind))
	default:
		value, err := decode(body)
		if err == nil {
			err = d.check(value, media["schema"], "request", true)
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// response holds an answer to its operation.
func (d *Description) response(op object, r *http.Request, resp *http.Response, body []byte) error {
	responses, _ := op["responses"].(object)
	status := strconv.Itoa(resp.StatusCode)
	schema := any(object{"$ref": "#/components/schemas/basic-error"})
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if listed, ok := responses[status]; ok {
		described, err := d.resolve(listed)
		if err != nil {
			return err
		}
		content, _ := described["content"].(object)
		if len(content) == 0 {
			if resp.StatusCode < 300 && len(body) > 0 {
				return fmt.Errorf("answer %s with a body", status)
			}
			return nil
		}
		if r.Header.Get("Accept") == "application/octet-stream" && kind == "application/octet-stream" {
			return nil // a download, as the text of the description says
		}
		media, ok := content["application/json"].(object)
		if !ok {
			return fmt.Errorf("answer %s has no JSON in the description", status)
		}
		schema = media["schema"]
	} else if resp.StatusCode < 400 {
		return fmt.Errorf("answer %s is not in the description", status)
	} // refusals of any request, such as 401 and 429, are not listed at each
	if kind != "application/json" {
		return fmt.Errorf("answer %s is %q", status, kind)
	}
	value, err := decode(body)
	if err != nil {
		return fmt.Errorf("answer %s: %w", status, err)
	}
	return d.check(value, schema, "answer "+status, true)
}

// Handler passes requests on to next and tells report what of request and answer
// is not as the description has it. Path gives the path of a request as the
// description knows it, "" for none of its. One request at a time is judged.
func (d *Description) Handler(next http.Handler, path func(string) string, report func(error)) http.Handler {
	var turn sync.Mutex // references are parsed when they are met
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := path(r.URL.EscapedPath())
		if own == "" {
			next.ServeHTTP(w, r)
			return
		}
		body, readErr := io.ReadAll(r.Body)
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), &failing{readErr}))
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		resp := answer.Result()
		turn.Lock()
		op, values, err := d.operation(r.Method, own)
		if err == nil {
			err = d.response(op, r, resp, answer.Body.Bytes())
			if readErr == nil {
				err = errors.Join(d.request(op, values, r, body), err)
			}
		}
		turn.Unlock()
		if err != nil {
			report(fmt.Errorf("%s %s: %w", r.Method, own, err))
		}
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// failing gives err, or the end.
type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}
