package bootimage_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
)

const (
	fedora  = "https://builds.coreos.fedoraproject.org"
	mirror  = "https://mirror.example.org/art/storage"
	someID  = "44.20260628.3.1"
	someImg = "fedora-coreos-44.20260628.3.1-qemu.x86_64.qcow2.xz"
)

// TestBucketLayout: keys, headers and addresses as coreos-assembler and the
// pipelines have them, and each read back.
func TestBucketLayout(t *testing.T) {
	fcos := bootimage.StreamBucket("stable", fedora, mirror)
	fcos.ACL = "public-read"
	oci := "fedora/fedora-coreos@sha256=" + strings.Repeat("a", 64) + "/signature-1"
	type file = bootimage.BucketFile
	for _, tc := range []struct {
		file      file
		key       string
		mediaType string
		cache     string
		stage     bootimage.Stage
	}{
		{file{Kind: bootimage.FileArtifact, Build: someID, Arch: "x86_64", Name: someImg}, "prod/streams/stable/builds/44.20260628.3.1/x86_64/" + someImg, "application/x-xz", "max-age=31536000", "content"},
		{file{Kind: bootimage.FileArtifact, Build: someID, Arch: "x86_64", Name: someImg + ".sig"}, "prod/streams/stable/builds/44.20260628.3.1/x86_64/" + someImg + ".sig", "application/octet-stream", "max-age=31536000", "content"},
		{file{Kind: bootimage.FileArtifact, Build: someID, Arch: "s390x", Name: "commitmeta.json"}, "prod/streams/stable/builds/44.20260628.3.1/s390x/commitmeta.json", "application/json", "max-age=31536000", "content"},
		{file{Kind: bootimage.FileOCISignature, Name: oci}, "prod/signatures/oci/" + oci, "application/octet-stream", "max-age=31536000", "content"},
		{file{Kind: bootimage.FileMeta, Build: someID, Arch: "x86_64"}, "prod/streams/stable/builds/44.20260628.3.1/x86_64/meta.json", "application/json", "max-age=300", "catalogue"},
		{file{Kind: bootimage.FileBuild, Build: someID, Name: "notes.tar"}, "prod/streams/stable/builds/44.20260628.3.1/notes.tar", "application/x-tar", "max-age=300", "catalogue"},
		{file{Kind: bootimage.FileRelease, Build: someID}, "prod/streams/stable/builds/44.20260628.3.1/release.json", "application/json", "max-age=300", "catalogue"},
		{file{Kind: bootimage.FileRelease, Build: someID, Arch: "x86_64"}, "prod/streams/stable/builds/44.20260628.3.1/x86_64/release.json", "application/json", "max-age=300", "catalogue"},
		{file{Kind: bootimage.FileBuilds}, "prod/streams/stable/builds/builds.json", "application/json", "max-age=300", "catalogue"},
		{file{Kind: bootimage.FileIndex}, "prod/streams/stable/releases.json", "application/json", "max-age=300", "announcement"},
		{file{Kind: bootimage.FileStream}, "streams/stable.json", "application/json", "max-age=60", "announcement"},
		{file{Kind: bootimage.FileUpdates}, "updates/stable.json", "application/json", "max-age=60", "announcement"},
		{file{Kind: bootimage.FileNotes}, "release-notes/stable.json", "application/json", "max-age=60", "announcement"},
	} {
		got, err := fcos.Object(tc.file)
		require.NoError(t, err, tc.key)
		require.Equal(t, bootimage.BucketObject{
			File: tc.file, Key: tc.key, ContentType: tc.mediaType, CacheControl: tc.cache, ACL: "public-read",
			Stage: tc.stage, Immutable: tc.stage == "content",
		}, got)
		back, err := fcos.Parse(tc.key)
		require.NoError(t, err)
		require.Equal(t, tc.file, back)
		urls, err := fcos.URLs(tc.file)
		require.NoError(t, err)
		require.Equal(t, []string{fedora + "/" + tc.key, mirror + "/" + tc.key}, urls)
		for i, address := range urls {
			back, base, err := fcos.ParseURL(address + "?sha256=x")
			require.NoError(t, err)
			require.Equal(t, tc.file, back)
			require.Equal(t, fcos.Bases[i], base)
			of, back, err := bootimage.BucketOf(address)
			require.NoError(t, err)
			require.Equal(t, tc.file, back)
			require.Equal(t, base, of.Bases[0])
		}
	}
}

// TestBucketOrder: the order is data: what an object names comes before it.
func TestBucketOrder(t *testing.T) {
	b := bootimage.StreamBucket("c10s")
	var objects []bootimage.BucketObject
	for _, f := range []bootimage.BucketFile{
		{Kind: bootimage.FileStream}, {Kind: bootimage.FileBuilds}, {Kind: bootimage.FileIndex}, {Kind: bootimage.FileUpdates},
		{Kind: bootimage.FileRelease, Build: "1.0"}, {Kind: bootimage.FileMeta, Build: "1.0", Arch: "x86_64"},
		{Kind: bootimage.FileArtifact, Build: "1.0", Arch: "x86_64", Name: "b.iso"}, {Kind: bootimage.FileArtifact, Build: "1.0", Arch: "x86_64", Name: "a.iso"},
	} {
		o, err := b.Object(f)
		require.NoError(t, err)
		objects = append(objects, o)
	}
	slices.SortFunc(objects, bootimage.BucketObject.Compare)
	var keys []string
	for _, o := range objects {
		keys = append(keys, string(o.Stage)+" "+strings.TrimPrefix(o.Key, "prod/streams/c10s/"))
	}
	require.Equal(t, []string{
		"content builds/1.0/x86_64/a.iso", "content builds/1.0/x86_64/b.iso", "catalogue builds/1.0/x86_64/meta.json", "catalogue builds/1.0/release.json",
		"catalogue builds/builds.json", "announcement releases.json", "announcement streams/c10s.json", "announcement updates/c10s.json",
	}, keys)
}

// TestBucketOfOthers: layouts that are or were in use.
func TestBucketOfOthers(t *testing.T) {
	kernel := bootimage.BucketFile{Kind: bootimage.FileArtifact, Build: "1.2", Arch: "x86_64", Name: "k"}
	for name, tc := range map[string]struct {
		bucket bootimage.Bucket
		key    string
	}{
		"coreos-assembler's folder": {bootimage.Bucket{}, "builds/1.2/x86_64/k"},
		"OKD's pipeline":            {bootimage.Bucket{Stream: "next", Prefix: "okd-scos/next"}, "okd-scos/next/builds/1.2/x86_64/k"},
		"flat":                      {bootimage.Bucket{Prefix: "releases/rhcos-4.9", Flat: true}, "releases/rhcos-4.9/1.2/x86_64/k"},
		"odd folder":                {bootimage.Bucket{Prefix: "a b%/ü"}, "a b%/ü/builds/1.2/x86_64/k"},
	} {
		key, err := tc.bucket.Key(kernel)
		require.NoError(t, err, name)
		require.Equal(t, tc.key, key, name)
		back, err := tc.bucket.Parse(key)
		require.NoError(t, err, name)
		require.Equal(t, kernel, back, name)
		tc.bucket.Bases = []string{"file:///srv/www", "https://example.org:8443/x"}
		urls, err := tc.bucket.URLs(kernel)
		require.NoError(t, err, name)
		for _, u := range urls {
			require.NotContains(t, u, " ")
			back, _, err := tc.bucket.ParseURL(u)
			require.NoError(t, err, name)
			require.Equal(t, kernel, back, name)
		}
	}
}

func TestBucketRefuses(t *testing.T) {
	good := bootimage.StreamBucket("stable", fedora)
	for _, f := range []bootimage.BucketFile{
		{},
		{Kind: "else"},
		{Kind: bootimage.FileArtifact, Build: someID, Arch: "x86_64"},
		{Kind: bootimage.FileArtifact, Build: someID, Arch: "x86_64", Name: "../x"},
		{Kind: bootimage.FileArtifact, Build: someID, Arch: "x86_64", Name: "meta.json"},
		{Kind: bootimage.FileArtifact, Build: someID, Arch: "x86_64", Name: "release.json"},
		{Kind: bootimage.FileArtifact, Build: "..", Arch: "x86_64", Name: "x"},
		{Kind: bootimage.FileMeta, Build: someID, Arch: "X/Y"},
		{Kind: bootimage.FileMeta, Build: someID, Arch: "x86_64", Name: "x"},
		{Kind: bootimage.FileBuilds, Build: someID},
		{Kind: bootimage.FileOCISignature, Name: "a/../b@sha256=" + strings.Repeat("a", 64) + "/signature-1"},
	} {
		_, err := good.Key(f)
		require.ErrorIs(t, err, fs.ErrInvalid, "%+v", f)
	}
	stream := bootimage.BucketFile{Kind: bootimage.FileStream}
	for name, b := range map[string]bootimage.Bucket{
		"no stream":         {},
		"stream of a path":  {Stream: "a/b"},
		"prefix goes up":    {Stream: "a", Prefix: "../x"},
		"prefix with slash": {Stream: "a", Prefix: "x/"},
		"mixed up":          {Stream: "a", Prefix: "streams"},
		"flat at the top":   {Stream: "a", Flat: true},
	} {
		_, err := b.Key(stream)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
	}
	for _, base := range []string{"", "x", "https://", "https://u:secret@example.org", "https://example.org/", "https://example.org?x", "https://example.org/a#b", "mailto:x"} {
		good.Bases = []string{base}
		_, err := good.URL(stream)
		require.ErrorIs(t, err, fs.ErrInvalid, base)
		require.NotContains(t, err.Error(), "secret")
	}
	for _, key := range []string{"", "builds/builds.json", "prod/streams/stable/builds", "prod/streams/stable/builds/x", "prod/streams/stable/builds/1/x86_64/a/b", "prod/streams/next/builds/builds.json", "streams/next.json"} {
		_, err := bootimage.StreamBucket("stable").Parse(key)
		require.ErrorIs(t, err, fs.ErrInvalid, key)
	}
	for _, u := range []string{
		"", "x", "https://example.org", "https://example.org/", "https://example.org//builds/1.2/x86_64/k", "https://example.org/builds/1.2/x86_64/%2e%2e",
		"https://u@example.org/builds/1.2/x86_64/k", "https://github.com/coreos/fedora-coreos-tracker/issues/1", "https://example.org/a/builds/1.2/x86_64/a%2fb",
	} {
		_, _, err := bootimage.BucketOf(u)
		require.ErrorIs(t, err, fs.ErrInvalid, u)
	}
}

// TestBucketOfPublished: every address of boot images in the published
// documents is understood and made again.
func TestBucketOfPublished(t *testing.T) {
	dir := interop.SharedData(t, "bootimage")
	kinds := map[bootimage.FileKind]int{}
	seen := map[string]bool{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(p) != ".json" {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		var document any
		if err := json.NewDecoder(bytes.NewReader(data)).Decode(&document); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		each(document, func(text string) {
			if !strings.HasPrefix(text, "https://") || !strings.Contains(text, "/art/storage/") && !strings.HasPrefix(text, fedora) || strings.HasSuffix(text, "/") || seen[text] {
				return
			}
			seen[text] = true
			b, f, err := bootimage.BucketOf(text)
			require.NoError(t, err, text)
			again, err := b.URL(f)
			require.NoError(t, err, text)
			require.Equal(t, text, again)
			kinds[f.Kind]++
			if strings.Contains(text, "/prod/streams/") {
				require.Equal(t, "prod/streams/"+b.Stream, b.Prefix, text)
			}
		})
		return nil
	})
	require.NoError(t, err)
	t.Log(kinds)
	require.Greater(t, kinds[bootimage.FileArtifact], 3000)
	require.Greater(t, kinds[bootimage.FileRelease], 50)
	require.Len(t, kinds, 2)
}

// each calls fn with every string of a JSON document.
func each(v any, fn func(string)) {
	switch v := v.(type) {
	case string:
		fn(v)
	case []any:
		for _, item := range v {
			each(item, fn)
		}
	case map[string]any:
		for _, item := range v {
			each(item, fn)
		}
	}
}

func FuzzBucket(f *testing.F) {
	for _, seed := range []string{
		fedora + "/prod/streams/stable/builds/44.20260628.3.1/x86_64/" + someImg, fedora + "/streams/next.json",
		"https://rhcos.mirror.openshift.com/art/storage/releases/rhcos-4.9/49.84.202207192205-0/x86_64/rhcos.vmdk.gz",
		"file:///a%20b/builds/builds.json", "https://h/prod/signatures/oci/a/b@sha256=" + strings.Repeat("0", 64) + "/signature-1", "prod/streams/stable/builds/1/x86_64/meta.json",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b bootimage.Bucket
		var file bootimage.BucketFile
		var err error
		fuzzbound.Linear(t, len(text), 256, func() { b, file, err = bootimage.BucketOf(text) })
		if err == nil {
			made, err := b.URL(file)
			require.NoError(t, err)
			bare, _, _ := strings.Cut(text, "#")
			bare, _, _ = strings.Cut(bare, "?")
			require.Equal(t, bare, made)
			back, base, err := b.ParseURL(text)
			require.NoError(t, err)
			require.Equal(t, file, back)
			require.Equal(t, b.Bases[0], base)
		}
		for _, b := range []bootimage.Bucket{bootimage.StreamBucket("stable"), {}, {Prefix: "x", Flat: true, Stream: "y"}} {
			if file, err := b.Parse(text); err == nil {
				key, err := b.Key(file)
				require.NoError(t, err)
				require.Equal(t, text, key)
			}
		}
	})
}
