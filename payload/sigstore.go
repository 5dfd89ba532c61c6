package payload

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// SignatureStore gives the signatures that there are of an image, in order. A
// digest without any is an empty sequence; the sequence ends after an error.
type SignatureStore interface {
	Signatures(ctx context.Context, digest v1.Hash) iter.Seq2[[]byte, error]
}

// SignatureKey is where signature n, from 1, of an image is in a store of
// files: sha256=HEX/signature-N. Readers look at 1, 2, … until one is missing.
func SignatureKey(digest v1.Hash, n int) string {
	return fmt.Sprintf("%s=%s/signature-%d", digest.Algorithm, digest.Hex, n)
}

// numbered reads a store of files by name.
func numbered(ctx context.Context, digest v1.Hash, read func(key string) ([]byte, error)) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if _, err := parseDigest(digest.String()); err != nil {
			yield(nil, err)
			return
		}
		for n := 1; n <= MaxSignatures; n++ {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			data, err := read(SignatureKey(digest, n))
			if errors.Is(err, fs.ErrNotExist) {
				return
			}
			if err == nil && len(data) > MaxSignatureSize {
				err = fmt.Errorf("%s has more than %d bytes", SignatureKey(digest, n), MaxSignatureSize)
			}
			if !yield(data, err) || err != nil {
				return
			}
		}
	}
}

// FileSignatures is a store of files in a folder.
func FileSignatures(fsys fs.FS) SignatureStore { return fileSignatures{folderImages{fsys}} }

type fileSignatures struct{ files folderImages }

func (s fileSignatures) Signatures(ctx context.Context, digest v1.Hash) iter.Seq2[[]byte, error] {
	return numbered(ctx, digest, func(key string) ([]byte, error) { return s.files.read(key, MaxSignatureSize) })
}

// HTTPSignaturesOptions say how [HTTPSignatures] asks. Nil is the default.
type HTTPSignaturesOptions struct {
	// Transport sends requests once. Nil: one that goes without a proxy
	// configured here, and trusts the system's authorities.
	Transport http.RoundTripper
}

// HTTPSignatures is a store of files on a web server, below the http or https
// URL base. A status 404 ends the search. Requests are repeated where that can
// help.
func HTTPSignatures(base string, opts *HTTPSignaturesOptions) (SignatureStore, error) {
	u, err := url.Parse(base)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "") {
		err = errors.New("not an URL of http or https")
	}
	if err != nil {
		return nil, &Error{Op: "verify", Target: "signature store", Err: httpx.Redact(err)}
	}
	if opts == nil {
		opts = &HTTPSignaturesOptions{}
	}
	return &httpSignatures{base: u, client: httpx.NewClient(httpx.NewTransport(opts.Transport, nil))}, nil
}

type httpSignatures struct {
	base   *url.URL
	client *http.Client
}

func (s *httpSignatures) Signatures(ctx context.Context, digest v1.Hash) iter.Seq2[[]byte, error] {
	return numbered(ctx, digest, func(key string) ([]byte, error) {
		u := s.base.JoinPath(key)
		data, err := s.get(ctx, u)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", httpx.RedactURL(u), httpx.Redact(err))
		}
		return data, nil
	})
}

func (s *httpSignatures) get(ctx context.Context, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return httpx.ReadBody(resp.Body, MaxSignatureSize)
	case http.StatusNotFound:
		return nil, fs.ErrNotExist
	}
	return nil, fmt.Errorf("status %s", resp.Status)
}

const (
	signaturesNamespace = "openshift-config-managed"
	signaturesLabel     = "release.openshift.io/verification-signatures"
	trustAnnotation     = "release.openshift.io/verification-config-map"
)

// EncodeSignatureConfigMap gives the ConfigMap by which a cluster gets the
// signatures of an image, as `oc adm release mirror` writes it into a file with
// the name given (signature-sha256-….json): compact JSON.
func EncodeSignatureConfigMap(digest v1.Hash, signatures [][]byte) (file string, data []byte, err error) {
	if _, err := parseDigest(digest.String()); err != nil {
		return "", nil, fmt.Errorf("payload: signature ConfigMap: %w", err)
	}
	if len(signatures) > MaxSignatures {
		return "", nil, fmt.Errorf("payload: signature ConfigMap: %d signatures, limit %d", len(signatures), MaxSignatures)
	}
	id := digest.Algorithm + "-" + digest.Hex
	binary := map[string][]byte{}
	for i, s := range signatures {
		if len(s) > MaxSignatureSize {
			return "", nil, fmt.Errorf("payload: signature ConfigMap: signature of %d bytes, limit %d", len(s), MaxSignatureSize)
		}
		binary[id+"-"+strconv.Itoa(i+1)] = s
	}
	var meta, top object
	meta.put("name", id)
	meta.put("namespace", signaturesNamespace)
	meta.put("labels", map[string]string{signaturesLabel: ""})
	top.put("kind", "ConfigMap")
	top.put("apiVersion", "v1")
	putObject(&top, "metadata", &meta)
	top.put("binaryData", binary)
	data, err = top.bytes()
	return "signature-" + digest.Algorithm + "-" + digest.Hex[:16] + ".json", data, err
}

// ConfigMapSignatures is a store in ConfigMaps, JSON or YAML, each with one or
// more documents: those that have the label
// release.openshift.io/verification-signatures. Their data are binaryData
// sha256-HEX-N, in the order of N.
func ConfigMapSignatures(files ...[]byte) (SignatureStore, error) {
	s := configMapSignatures{}
	for i, data := range files {
		docs := documents(data)
		if len(docs) > MaxDocuments {
			return nil, fmt.Errorf("payload: signature ConfigMap %d: more than %d documents", i+1, MaxDocuments)
		}
		for _, doc := range docs {
			if err := s.add(doc.data); err != nil {
				return nil, fmt.Errorf("payload: signature ConfigMap %d: line %d: %w", i+1, doc.line, err)
			}
		}
	}
	return s, nil
}

type configMapSignatures map[v1.Hash]map[int][]byte

type configMap struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Data       map[string]string `json:"data"`
	BinaryData map[string]string `json:"binaryData"`
	Metadata   struct {
		Name        string            `json:"name"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
}

func (s configMapSignatures) add(data []byte) error {
	o, err := decodeObject(data)
	if errors.Is(err, errEmpty) {
		return nil
	}
	if err != nil {
		return err
	}
	var m configMap
	if err := json.Unmarshal(o.JSON, &m); err != nil {
		return err
	}
	if _, ok := m.Metadata.Labels[signaturesLabel]; !ok || m.Kind != "ConfigMap" || m.APIVersion != "v1" {
		return fmt.Errorf("%s is no ConfigMap with signatures", o)
	}
	for key, text := range m.BinaryData {
		id, number, ok := cutLast(key, "-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 0 || strconv.Itoa(n) != number { // of 1 and 01 either would take the other's place
			return fmt.Errorf("key %.100q is not sha256-HEX-N", key)
		}
		digest, err := parseDigest(strings.Replace(id, "-", ":", 1))
		if err != nil {
			return err
		}
		sig, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if len(sig) > MaxSignatureSize {
			return fmt.Errorf("%s has %d bytes, limit %d", key, len(sig), MaxSignatureSize)
		}
		if s[digest] == nil {
			s[digest] = map[int][]byte{}
		}
		if len(s[digest]) == MaxSignatures {
			return fmt.Errorf("more than %d signatures of %s", MaxSignatures, digest)
		}
		s[digest][n] = sig
	}
	return nil
}

func cutLast(text, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return text, "", false
}

func (s configMapSignatures) Signatures(_ context.Context, digest v1.Hash) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, n := range slices.Sorted(maps.Keys(s[digest])) {
			if !yield(bytes.Clone(s[digest][n]), nil) {
				return
			}
		}
	}
}
