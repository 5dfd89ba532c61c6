package signaturepolicy

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/signature"
)

// MaxPolicySize bounds a policy file, in bytes.
const MaxPolicySize = 1 << 20

// maxFaults is how many requirements of a list are told to be wrong.
const maxFaults = 100

// Policy is what a policy.json says. It does not change and may be used from any
// goroutine.
type Policy struct {
	fallback   []requirement
	transports map[string]map[string][]requirement
}

// Kinds of requirements.
const (
	acceptAnything = "insecureAcceptAnything"
	reject         = "reject"
	signedBy       = "signedBy"
	sigstoreSigned = "sigstoreSigned"
	signedBase     = "signedBaseLayer"
)

// requirement is one that an image has to meet.
type requirement struct {
	kind     string
	paths    []string // of keys
	data     [][]byte // keys
	identity identity
	missing  string // what is asked for and not supported; "": nothing
}

// identity is a signedIdentity: which names a signature may have.
type identity struct {
	kind                 string
	reference            name.Reference // exactReference
	repository           string         // exactRepository
	prefix, signedPrefix string         // remapIdentity
}

// Decode reads a policy.json. It is as strict as containers/image: unknown
// members and types, members that are there twice, no requirements at all, and
// more or less than one source of keys are errors, which are told together.
func Decode(r io.Reader) (*Policy, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxPolicySize+1))
	if err == nil && len(data) > MaxPolicySize {
		err = fmt.Errorf("over %d bytes", MaxPolicySize)
	}
	if err == nil {
		err = signature.CheckNames(data)
	}
	p := &Policy{transports: map[string]map[string][]requirement{}}
	if err == nil {
		err = p.decode(data)
	}
	if err != nil {
		return nil, fmt.Errorf("signaturepolicy: %w", err)
	}
	return p, nil
}

func (p *Policy) decode(data []byte) error {
	var fallback json.RawMessage
	var transports map[string]map[string]json.RawMessage
	if err := members(data, map[string]any{"default": &fallback, "transports": &transports}); err != nil {
		return err
	}
	var faults []error
	read := func(where string, raw json.RawMessage) []requirement {
		all, err := decodeRequirements(raw)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", where, err))
		}
		return all
	}
	if fallback == nil {
		faults = append(faults, errors.New("no default"))
	} else {
		p.fallback = read("default", fallback)
	}
	for _, transport := range slices.Sorted(maps.Keys(transports)) {
		p.transports[transport] = map[string][]requirement{}
		for _, scope := range slices.Sorted(maps.Keys(transports[transport])) {
			p.transports[transport][scope] = read(fmt.Sprintf("transports, %q, %q", transport, scope), transports[transport][scope])
		}
	}
	return errors.Join(faults...)
}

// members reads an object whose members are known, by their exact names.
func members(data []byte, known map[string]any) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	if all == nil {
		return errors.New("null, want an object")
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		to, ok := known[key]
		if !ok {
			return fmt.Errorf("unknown member %.100q", key)
		}
		if err := json.Unmarshal(all[key], to); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func decodeRequirements(raw json.RawMessage) ([]requirement, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no requirements, want at least one")
	}
	out := make([]requirement, len(list))
	var faults []error
	for i, raw := range list {
		if err := out[i].decode(raw); err != nil {
			faults = append(faults, fmt.Errorf("requirement %d: %w", i+1, err))
		}
		if len(faults) == maxFaults {
			faults = append(faults, errors.New("perhaps more"))
			break
		}
	}
	return out, errors.Join(faults...)
}

func (q *requirement) decode(raw json.RawMessage) error {
	var kind struct{ Type string }
	if err := json.Unmarshal(raw, &kind); err != nil {
		return err
	}
	var keyPath, keyData, keyType string
	var keyPaths, keyDatas []string
	var signed, base, fulcio, pki json.RawMessage
	known := map[string]any{"type": &q.kind}
	rekor := map[string]*json.RawMessage{}
	switch kind.Type {
	case acceptAnything, reject:
	case signedBy:
		known["keyType"] = &keyType
		known["keyPath"], known["keyPaths"], known["keyData"], known["signedIdentity"] = &keyPath, &keyPaths, &keyData, &signed
	case sigstoreSigned:
		known["keyPath"], known["keyPaths"], known["keyData"], known["keyDatas"], known["signedIdentity"] = &keyPath, &keyPaths, &keyData, &keyDatas, &signed
		known["fulcio"], known["pki"] = &fulcio, &pki
		for _, key := range []string{"rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"} {
			rekor[key] = new(json.RawMessage)
			known[key] = rekor[key]
		}
	case signedBase:
		known["baseLayerIdentity"] = &base
	default:
		return fmt.Errorf("type %.100q is not known", kind.Type)
	}
	if err := members(raw, known); err != nil {
		return err
	}
	if q.kind != kind.Type { // another spelling of the member's name
		return errors.New("no type")
	}
	switch q.kind {
	case acceptAnything, reject:
		return nil
	case signedBase:
		q.missing = signedBase
		return nil
	case signedBy:
		if keyType != "GPGKeys" {
			return fmt.Errorf("keyType %.100q, want GPGKeys", keyType)
		}
	}
	sources := 0
	for _, given := range []bool{keyPath != "", keyPaths != nil, keyData != "", keyDatas != nil, fulcio != nil, pki != nil} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return fmt.Errorf("%d sources of keys, want one", sources)
	}
	q.paths = keyPaths
	if keyPath != "" {
		q.paths = []string{keyPath}
	}
	if keyData != "" {
		keyDatas = []string{keyData}
	}
	for i, text := range keyDatas {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
		q.data = append(q.data, key)
	}
	switch {
	case fulcio != nil:
		q.missing = "fulcio"
	case pki != nil:
		q.missing = "pki"
	case len(q.paths)+len(q.data) == 0:
		return errors.New("no keys")
	}
	for _, key := range slices.Sorted(maps.Keys(rekor)) {
		if *rekor[key] != nil {
			q.missing = key
		}
	}
	if signed == nil {
		q.identity.kind = matchRepoDigestOrExact
		return nil
	}
	if err := q.identity.decode(signed); err != nil {
		return fmt.Errorf("signedIdentity: %w", err)
	}
	return nil
}

// Kinds of signedIdentity.
const (
	matchExact             = "matchExact"
	matchRepoDigestOrExact = "matchRepoDigestOrExact"
	matchRepository        = "matchRepository"
	exactReference         = "exactReference"
	exactRepository        = "exactRepository"
	remapIdentity          = "remapIdentity"
)

func (d *identity) decode(raw json.RawMessage) error {
	var kind struct{ Type string }
	if err := json.Unmarshal(raw, &kind); err != nil {
		return err
	}
	var reference, repository string
	known := map[string]any{"type": &d.kind}
	switch kind.Type {
	case matchExact, matchRepoDigestOrExact, matchRepository:
	case exactReference:
		known["dockerReference"] = &reference
	case exactRepository:
		known["dockerRepository"] = &repository
	case remapIdentity:
		known["prefix"], known["signedPrefix"] = &d.prefix, &d.signedPrefix
	default:
		return fmt.Errorf("type %.100q is not known", kind.Type)
	}
	if err := members(raw, known); err != nil {
		return err
	}
	var err error
	switch d.kind {
	case exactReference:
		d.reference, err = parseReference(reference)
	case exactRepository:
		var repo name.Repository
		if repo, err = name.NewRepository(repository); err == nil {
			d.repository = canonicalRepository(repo)
		}
	case remapIdentity:
		if d.prefix == "" || d.signedPrefix == "" || strings.HasSuffix(d.prefix, "/") || strings.HasSuffix(d.signedPrefix, "/") {
			err = errors.New("prefix and signedPrefix must be given, without a slash at the end")
		}
	case "":
		err = errors.New("no type")
	}
	return err
}

// parseReference reads a pullspec that names a tag, a digest or both.
func parseReference(text string) (name.Reference, error) {
	ref, err := name.ParseReference(text)
	if err != nil {
		return nil, err
	}
	if _, ok := ref.(name.Tag); ok && !named(text) {
		return nil, fmt.Errorf("%.300q has neither tag nor digest", text)
	}
	return ref, nil
}

// named reports whether a pullspec says its tag.
func named(text string) bool {
	return strings.Contains(text[strings.LastIndexByte(text, '/')+1:], ":")
}
