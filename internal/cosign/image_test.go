package cosign_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/cosign"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/internal/signature"
	vrfy "github.com/okd-project/okd-streams/internal/verify"
)

const repo = "quay.example.com/okd/release"

var subject = v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}

func secretOf(t testing.TB, kind string) *cosign.Secret {
	t.Helper()
	s, err := cosign.ParseSecret(pkcs8(t, makeKey(t, kind)), nil)
	require.NoError(t, err)
	return s
}

func sign(t testing.TB, s *cosign.Secret, identity string, prior v1.Image) v1.Image {
	t.Helper()
	img, err := cosign.SignImage(t.Context(), subject, identity, s, nil, prior)
	require.NoError(t, err)
	return img
}

func digestOf(t testing.TB, img v1.Image) v1.Hash {
	t.Helper()
	d, err := img.Digest()
	require.NoError(t, err)
	return d
}

func TestSignImage(t *testing.T) {
	t.Parallel()
	require.Equal(t, "sha256-"+subject.Hex+".sig", cosign.Tag(subject))
	for _, kind := range kinds {
		s := secretOf(t, kind)
		img := sign(t, s, repo, nil)
		require.Equal(t, digestOf(t, img), digestOf(t, sign(t, s, repo, nil)), "the same bytes")
		m, err := img.Manifest()
		require.NoError(t, err)
		require.Equal(t, types.OCIManifestSchema1, m.MediaType)
		require.Equal(t, types.OCIConfigJSON, m.Config.MediaType)
		require.Len(t, m.Layers, 1)
		require.EqualValues(t, "application/vnd.dev.cosign.simplesigning.v1+json", m.Layers[0].MediaType)
		require.NotEmpty(t, m.Layers[0].Annotations["dev.cosignproject.cosign/signature"])
		layers, err := img.Layers()
		require.NoError(t, err)
		rc, err := layers[0].Compressed()
		require.NoError(t, err)
		body, err := io.ReadAll(rc)
		require.NoError(t, err)
		require.Equal(t, `{"critical":{"identity":{"docker-reference":"`+repo+`"},"image":{"docker-manifest-digest":"`+subject.String()+
			`"},"type":"cosign container image signature"},"optional":null}`, string(body), "as cosign writes it")

		all, err := cosign.VerifyImage(t.Context(), img, subject, repo, secretOf(t, "p256").Public(), s.Public())
		require.NoError(t, err)
		require.Equal(t, []cosign.Signature{{Key: s.Public().ID(), Identity: repo, Digest: subject}}, all)
	}
}

func TestSignImageKeepsOthers(t *testing.T) {
	t.Parallel()
	a, b := secretOf(t, "p256"), secretOf(t, "rsa")
	one := sign(t, a, repo, nil)
	require.Equal(t, digestOf(t, one), digestOf(t, sign(t, a, repo, one)), "signed already")
	two := sign(t, b, repo, one)
	three := sign(t, a, "mirror.example.com/okd", two)
	all, err := cosign.VerifyImage(t.Context(), three, subject, repo, a.Public(), b.Public())
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.NoError(t, all[0].Err)
	require.NoError(t, all[1].Err)
	require.ErrorIs(t, all[2].Err, signature.ErrSignature, "under another name")
	all, err = cosign.VerifyImage(t.Context(), three, subject, repo, b.Public())
	require.NoError(t, err)
	require.ErrorIs(t, all[0].Err, signature.ErrUnknownKey)
	require.Empty(t, all[0].Identity, "nobody vouches for it")

	noted, err := cosign.SignImage(t.Context(), subject, repo, a, map[string]string{"creator": "okd-streams"}, nil)
	require.NoError(t, err)
	all, err = cosign.VerifyImage(t.Context(), noted, subject, repo, a.Public())
	require.NoError(t, err)
	require.Equal(t, map[string]any{"creator": "okd-streams"}, all[0].Annotations)
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	other := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("cd", 32)}
	s := secretOf(t, "p256")
	for _, tc := range []struct {
		signed, want string
		ok           bool
	}{
		{repo, repo, true},
		{repo, cosign.AnyIdentity, true},
		{repo, repo + ":4.20", true},
		{repo, repo + "@" + subject.String(), true},
		{repo + ":4.20", repo, true},
		{repo + ":4.20", repo + ":4.20", true},
		{repo + ":4.20", repo + ":4.21", false},
		{repo + ":4.20@" + subject.String(), repo + ":4.20", true},
		{repo + ":4.20@" + subject.String(), repo + ":4.21", false},
		{repo + "@" + subject.String(), repo + "@" + other.String(), false},
		{repo + "@" + other.String(), repo, false},
		{repo + "@" + other.String(), cosign.AnyIdentity, false},
		{repo, repo + "2", false},
		{repo, "quay.example.com/okd", false},
		{repo, "mirror.example.com/okd/release", false},
		{"docker.io/library/debian", "debian", true},
		{repo, "", false},
		{repo, "not a name", false},
	} {
		_, err := cosign.VerifyImage(t.Context(), sign(t, s, tc.signed, nil), subject, tc.want, s.Public())
		require.Equal(t, tc.ok, err == nil, "%s for %s: %v", tc.signed, tc.want, err)
		img, err := cosign.SignBundle(t.Context(), v1.Descriptor{Digest: subject, Size: 7, MediaType: types.OCIManifestSchema1}, tc.signed, s, nil, time.Unix(0, 0))
		require.NoError(t, err)
		_, err = cosign.VerifyBundle(t.Context(), img, subject, tc.want, s.Public())
		require.Equal(t, tc.ok, err == nil, "%s for %s: %v", tc.signed, tc.want, err)
	}
	_, err := cosign.SignImage(t.Context(), subject, "not a name", s, nil, nil)
	require.Error(t, err)
	_, err = cosign.SignImage(t.Context(), subject, "", s, nil, nil)
	require.Error(t, err)
	_, err = cosign.SignImage(t.Context(), v1.Hash{Algorithm: "sha512", Hex: "00"}, repo, s, nil, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// forge makes a signature image of any payload.
func forge(t testing.TB, s *cosign.Secret, body string) v1.Image {
	t.Helper()
	b64, err := s.Sign(t.Context(), strings.NewReader(body))
	require.NoError(t, err)
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer: static.NewLayer([]byte(body), cosign.PayloadType), Annotations: map[string]string{cosign.SignatureAnnotation: string(b64)},
	})
	require.NoError(t, err)
	return img
}

// lying is an image whose layers have other bytes than its manifest says.
type lying struct {
	v1.Image
	bytes []byte
}

func (l lying) LayerByDigest(v1.Hash) (v1.Layer, error) {
	return static.NewLayer(l.bytes, cosign.PayloadType), nil
}

func TestForgedImages(t *testing.T) {
	t.Parallel()
	s := secretOf(t, "p256")
	good := sign(t, s, repo, nil)
	layers, err := good.Layers()
	require.NoError(t, err)
	rc, err := layers[0].Compressed()
	require.NoError(t, err)
	body, err := io.ReadAll(rc)
	require.NoError(t, err)
	check := func(img v1.Image) error {
		_, err := cosign.VerifyImage(t.Context(), img, subject, repo, s.Public())
		return err
	}
	require.NoError(t, check(forge(t, s, string(body))))
	edit := func(from, to string) v1.Image {
		require.Contains(t, string(body), from)
		return forge(t, s, strings.Replace(string(body), from, to, 1))
	}
	for name, img := range map[string]v1.Image{
		"of another image":       edit("abab", "cdcd"),
		"of no digest":           edit("sha256:ab", "sha256:xy"),
		"atomic":                 edit("cosign container image signature", "atomic container signature"),
		"no type":                edit("cosign container image signature", ""),
		"unknown critical field": edit(`{"critical":{`, `{"critical":{"until":"tomorrow",`),
		"unknown field":          edit(`{"critical":{`, `{"more":1,"critical":{`),
		"no name":                edit(repo, ""),
		"two documents":          forge(t, s, string(body)+string(body)),
		"garbage":                forge(t, s, "garbage"),
		"no layer":               empty.Image,
	} {
		require.ErrorIs(t, check(img), signature.ErrSignature, name)
	}
	require.ErrorIs(t, check(lying{good, bytes.Replace(body, []byte("abab"), []byte("cdcd"), 1)}), vrfy.ErrDigest)
	require.ErrorIs(t, check(lying{good, append(body, ' ')}), vrfy.ErrDigest)
	big, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer: static.NewLayer(make([]byte, 256<<10+1), cosign.PayloadType), Annotations: map[string]string{cosign.SignatureAnnotation: ""},
	})
	require.NoError(t, err)
	require.ErrorIs(t, check(big), signature.ErrSignature)
	many, err := random.Image(1, 101)
	require.NoError(t, err)
	require.ErrorIs(t, check(many), signature.ErrSignature)
	_, err = cosign.VerifyImage(t.Context(), good, subject, repo)
	require.ErrorIs(t, err, signature.ErrUnknownKey, "no keys")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = cosign.VerifyImage(ctx, good, subject, repo, s.Public())
	require.ErrorIs(t, err, context.Canceled)
}

var described = v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: subject, Size: 1234}

func TestBundle(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		s := secretOf(t, kind)
		img, err := cosign.SignBundle(t.Context(), described, repo, s, map[string]string{"creator": "okd"}, time.Unix(1700000000, 0))
		require.NoError(t, err)
		again, err := cosign.SignBundle(t.Context(), described, repo, s, map[string]string{"creator": "okd"}, time.Unix(1700000000, 0))
		require.NoError(t, err)
		require.Equal(t, digestOf(t, img), digestOf(t, again), "the same bytes")
		m, err := img.Manifest()
		require.NoError(t, err)
		require.EqualValues(t, cosign.BundleType, m.ArtifactType)
		require.EqualValues(t, "application/vnd.oci.empty.v1+json", m.Config.MediaType)
		require.Equal(t, &described, m.Subject)
		require.Equal(t, map[string]string{
			"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
			"org.opencontainers.image.created": "2023-11-14T22:13:20Z",
		}, m.Annotations)
		config, err := img.RawConfigFile()
		require.NoError(t, err)
		require.Equal(t, "{}", string(config))

		all, err := cosign.VerifyBundle(t.Context(), img, subject, repo, secretOf(t, "rsa").Public(), s.Public())
		require.NoError(t, err)
		require.Equal(t, []cosign.Signature{{Key: s.Public().ID(), Identity: repo, Digest: subject, Bundle: true, Annotations: map[string]any{"creator": "okd"}}}, all)
		_, err = cosign.VerifyBundle(t.Context(), img, subject, repo, secretOf(t, "p256").Public())
		require.ErrorIs(t, err, signature.ErrUnknownKey)
		_, err = cosign.VerifyBundle(t.Context(), img, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("00", 32)}, repo, s.Public())
		require.ErrorIs(t, err, signature.ErrSignature)

		unnamed, err := cosign.SignBundle(t.Context(), described, "", s, nil, time.Unix(1700000000, 0))
		require.NoError(t, err)
		_, err = cosign.VerifyBundle(t.Context(), unnamed, subject, repo, s.Public())
		require.ErrorIs(t, err, signature.ErrSignature)
		_, err = cosign.VerifyBundle(t.Context(), unnamed, subject, cosign.AnyIdentity, s.Public())
		require.NoError(t, err)
	}
}

// referring is a manifest that refers to subject with a bundle of any content.
func referring(t testing.TB, raw []byte) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(raw, cosign.BundleType))
	require.NoError(t, err)
	return mutate.Subject(img, described).(v1.Image)
}

func bundleOf(t testing.TB, s *cosign.Secret, identity string) []byte {
	t.Helper()
	img, err := cosign.SignBundle(t.Context(), described, identity, s, nil, time.Unix(0, 0))
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	rc, err := layers[0].Compressed()
	require.NoError(t, err)
	raw, err := io.ReadAll(rc)
	require.NoError(t, err)
	return raw
}

func TestForgedBundles(t *testing.T) {
	t.Parallel()
	s := secretOf(t, "rsa")
	raw := bundleOf(t, s, repo)
	check := func(img v1.Image) error {
		_, err := cosign.VerifyBundle(t.Context(), img, subject, repo, s.Public())
		return err
	}
	require.NoError(t, check(referring(t, raw)))
	// restate signs another statement in the same envelope.
	restate := func(from, to string) v1.Image {
		var b map[string]any
		require.NoError(t, json.Unmarshal(raw, &b))
		e := b["dsseEnvelope"].(map[string]any)
		payload, err := base64.StdEncoding.DecodeString(e["payload"].(string))
		require.NoError(t, err)
		require.Contains(t, string(payload), from)
		payload = []byte(strings.ReplaceAll(string(payload), from, to))
		e["payload"] = payload
		encoded := "DSSEv1 28 application/vnd.in-toto+json " + itoa(len(payload)) + " " + string(payload)
		sig, err := s.Sign(t.Context(), strings.NewReader(encoded))
		require.NoError(t, err)
		e["signatures"] = []any{map[string]any{"sig": string(sig)}}
		out, err := json.Marshal(b)
		require.NoError(t, err)
		return referring(t, out)
	}
	require.NoError(t, check(restate("v1", "v1")), "the encoding is DSSE's")
	edit := func(from, to string) v1.Image {
		require.Contains(t, string(raw), from)
		return referring(t, []byte(strings.Replace(string(raw), from, to, 1)))
	}
	layers, err := referring(t, raw).Layers()
	require.NoError(t, err)
	for name, img := range map[string]v1.Image{
		"of another image":   restate("abab", "cdcd"),
		"an attestation":     restate("https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1"),
		"another statement":  restate("in-toto.io/Statement/v1", "in-toto.io/Statement/v9"),
		"another name":       restate(repo, repo+"2"),
		"no subject":         restate(`"subject":[`, `"objects":[`),
		"not JSON":           restate("{", ""),
		"other payload type": edit("application/vnd.in-toto+json", "application/json"),
		"other version":      edit("bundle.v0.3+json", "bundle.v0.9+json"),
		"unsigned":           edit(`"signatures":[`, `"more":[`),
		"too many":           edit(`"signatures":[`, `"signatures":[`+strings.Repeat("{},", 101)),
		"garbage":            referring(t, []byte("garbage")),
		"too large":          referring(t, append(bytes.Clone(raw), bytes.Repeat([]byte(" "), 1<<20)...)),
		"no bundle":          empty.Image,
		"two layers":         mutate.Subject(must(mutate.AppendLayers(empty.Image, layers[0], layers[0])), described).(v1.Image),
	} {
		require.ErrorIs(t, check(img), signature.ErrSignature, name)
	}
	elsewhere := described
	elsewhere.Digest.Hex = strings.Repeat("cd", 32)
	require.ErrorIs(t, check(mutate.Subject(referring(t, raw), elsewhere).(v1.Image)), signature.ErrSignature, "refers to another image")
	require.ErrorIs(t, check(lying{referring(t, raw), append(bytes.Clone(raw), ' ')}), vrfy.ErrDigest)
}

func must(img v1.Image, err error) v1.Image {
	if err != nil {
		panic(err)
	}
	return img
}

func itoa(n int) string { raw, _ := json.Marshal(n); return string(raw) }

func FuzzBundle(f *testing.F) {
	s := secretOf(f, "p256")
	f.Add(bundleOf(f, s, repo))
	f.Add(bundleOf(f, s, ""))
	f.Fuzz(func(t *testing.T, raw []byte) {
		images := referring(t, raw)
		var all []cosign.Signature
		var err error
		fuzzbound.Linear(t, len(raw), 512, func() { all, err = cosign.VerifyBundle(t.Context(), images, subject, cosign.AnyIdentity, s.Public()) })
		if err != nil {
			require.ErrorIs(t, err, signature.ErrSignature)
			return
		}
		require.NotEmpty(t, all)
	})
}

func FuzzPayload(f *testing.F) {
	for doc := range mutants.Of(`{"critical":{"identity":{"docker-reference":"q.io/a"},"image":{"docker-manifest-digest":"` + subject.String() + `"},"type":"cosign container image signature"},"optional":null}`) {
		f.Add([]byte(doc), "q.io/a")
	}
	f.Add([]byte(`{"critical":{},"optional":{"a":[1,{"b":null}]}}`), "*")
	escaped := `{"critical":{"image":{"docker-manifest-digest":"sha256\u003a` + subject.Hex + `"},"type":"cosign container image signature"}}`
	f.Add([]byte(strings.ReplaceAll(escaped, subject.Hex, fmt.Sprintf(`\u%04x`, subject.Hex[0])+subject.Hex[1:])), "*")
	s := secretOf(f, "ed25519")
	f.Fuzz(func(t *testing.T, body []byte, identity string) {
		images := forge(t, s, string(body))
		var all []cosign.Signature
		var err error
		fuzzbound.Linear(t, len(body)+len(identity), 512, func() { all, err = cosign.VerifyImage(t.Context(), images, subject, identity, s.Public()) })
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		require.Equal(t, subject, all[0].Digest)
		var said struct {
			Critical struct {
				Image map[string]string `json:"image"`
			} `json:"critical"`
		}
		require.NoError(t, json.Unmarshal(body, &said))
		require.Contains(t, slices.Collect(maps.Values(said.Critical.Image)), subject.String())
	})
}
