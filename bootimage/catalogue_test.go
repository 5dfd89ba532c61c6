package bootimage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/s3store"
	"github.com/stretchr/testify/require"
)

const catalogue = `{
    "schema-version": "1.0.0",
    "builds": [
        {
            "id": "3",
            "arches": [
                "x86_64"
            ],
            "own": 1.50
        },
        {
            "id": "2",
            "arches": [
                "aarch64"
            ],
            "policy-cleanup": {"cloud-uploads": true, "other": 1.0}
        }
    ],
    "tags": [
        {
            "name": "keep",
            "created": "2026-01-01T00:00:00Z",
            "target": "2"
        }
    ],
    "tombstone-builds": [
        {
            "id": "1",
            "arches": []
        }
    ],
    "timestamp": "2026-11-01T00:00:00Z"
}
`

var later = time.Date(2026, 11, 25, 20, 54, 7, 0, time.UTC)

func TestTagBuild(t *testing.T) {
	tagged, err := bootimage.TagBuild(bootimage.BuildTag{Name: "next", Target: "3", Description: "d"}, later)([]byte(catalogue))
	require.NoError(t, err)
	require.Contains(t, string(tagged), `"name": "next",
            "created": "2026-11-25T20:54:07Z",
            "target": "3",
            "description": "d"`)
	require.Contains(t, string(tagged), `"timestamp": "2026-11-25T20:54:07Z"`)
	same, err := bootimage.TagBuild(bootimage.BuildTag{Name: "next", Target: "3"}, later.Add(time.Hour))(tagged)
	require.NoError(t, err)
	require.Equal(t, string(tagged), string(same))
	moved, err := bootimage.TagBuild(bootimage.BuildTag{Name: "keep", Target: "3"}, later)(tagged)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(moved), `"target": "3"`))

	_, err = bootimage.TagBuild(bootimage.BuildTag{Name: "x", Target: "1"}, later)([]byte(catalogue))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "build 1 was deleted")
	_, err = bootimage.TagBuild(bootimage.BuildTag{Name: "x", Target: "7"}, later)([]byte(catalogue))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = bootimage.TagBuild(bootimage.BuildTag{Name: "a/b", Target: "3"}, later)([]byte(catalogue))
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = bootimage.TagBuild(bootimage.BuildTag{Name: "x", Target: "3"}, later)(nil)
	require.ErrorIs(t, err, fs.ErrNotExist)

	untagged, err := bootimage.UntagBuild("keep", later)([]byte(catalogue))
	require.NoError(t, err)
	require.NotContains(t, string(untagged), "keep")
	same, err = bootimage.UntagBuild("keep", later.Add(time.Hour))(untagged)
	require.NoError(t, err)
	require.Equal(t, string(untagged), string(same))
}

func TestDeleteBuild(t *testing.T) {
	_, err := bootimage.DeleteBuild("2", later)([]byte(catalogue))
	require.ErrorIs(t, err, bootimage.ErrTagged)
	data, err := bootimage.UntagBuild("keep", later)([]byte(catalogue))
	require.NoError(t, err)
	data, err = bootimage.DeleteBuild("2", later)(data)
	require.NoError(t, err)
	d, err := bootimage.DecodeBuilds(bytes.NewReader(data))
	require.NoError(t, err)
	require.Len(t, d.Value().Builds, 1)
	require.Equal(t, "2", d.Value().Tombstones[1].ID)
	require.JSONEq(t, `{"cloud-uploads": true, "other": 1.0}`, string(d.Value().Tombstones[1].PolicyCleanup))
	require.Contains(t, string(data), `"own": 1.50`)
	same, err := bootimage.DeleteBuild("2", later.Add(time.Hour))(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(same))
	_, err = bootimage.DeleteBuild("7", later)(data)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = bootimage.AddBuild(bootimage.Build{ID: "2", Arch: "x86_64", Time: later})(data)
	require.ErrorIs(t, err, fs.ErrExist)
	e, ok := d.Value().Latest("")
	require.True(t, ok)
	require.Equal(t, "3", e.ID)
	_, ok = d.Value().Latest("aarch64")
	require.False(t, ok)
}

func TestCleanBuild(t *testing.T) {
	data, err := bootimage.CleanBuild("2", bootimage.Cleanup{Images: true, ImagesKept: []string{"qemu", "live-iso"}}, later)([]byte(catalogue))
	require.NoError(t, err)
	require.Contains(t, string(data), `"policy-cleanup": {"cloud-uploads": true, "images": true, "images-kept": ["qemu", "live-iso"], "other": 1.0}`)
	data, err = bootimage.CleanBuild("2", bootimage.Cleanup{Images: true, ImagesKept: []string{"live-iso", "metal"}, Containers: true}, later)(data)
	require.NoError(t, err)
	require.Contains(t, string(data), `"images-kept": ["live-iso"], "containers": true`)
	same, err := bootimage.CleanBuild("2", bootimage.Cleanup{CloudUploads: true}, later.Add(time.Hour))(data)
	require.NoError(t, err)
	require.Equal(t, string(data), string(same))
	first, err := bootimage.CleanBuild("3", bootimage.Cleanup{Containers: true}, later)(data)
	require.NoError(t, err)
	require.Contains(t, string(first), "\"policy-cleanup\": {\n                \"containers\": true\n            }")
	_, err = bootimage.CleanBuild("7", bootimage.Cleanup{}, later)(data)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// hundreds writes a catalogue by many writers at once.
func hundreds(t *testing.T, store publish.Store, writers int) {
	t.Helper()
	const key = "prod/streams/own/builds/builds.json"
	opts := &publish.UpdateOptions{Attempts: 10 * writers, Delay: time.Millisecond, Jitter: rand.Float64, ContentType: "application/json"}
	start := []byte(catalogue)
	_, err := publish.Update(t.Context(), store, key, func([]byte) ([]byte, error) { return start, nil }, opts)
	require.NoError(t, err)
	var wait sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		wait.Go(func() {
			build := bootimage.Build{ID: fmt.Sprintf("b%d", i/2), Arch: []string{"x86_64", "aarch64"}[i%2], Time: later}
			change := bootimage.AddBuild(build)
			switch i % 50 {
			case 48: // one of a build's two architectures, and a tag for another build
				change = bootimage.TagBuild(bootimage.BuildTag{Name: fmt.Sprintf("t%d", i), Target: "3"}, later)
			case 49:
				change = bootimage.CleanBuild("2", bootimage.Cleanup{Containers: true}, later)
			}
			_, errs[i] = publish.Update(t.Context(), store, key, change, opts)
		})
	}
	wait.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	data, _, err := publish.ReadDocument(t.Context(), store, key)
	require.NoError(t, err)
	d, err := bootimage.DecodeBuilds(bytes.NewReader(data))
	require.NoError(t, err)
	arches := map[string]int{}
	for _, b := range d.Value().Builds {
		arches[b.ID] = len(b.Arches)
	}
	tags := map[string]bool{}
	for _, tag := range d.Value().Tags {
		tags[tag.Name] = true
	}
	for i := range writers {
		switch i % 50 {
		case 48:
			require.True(t, tags[fmt.Sprintf("t%d", i)])
		case 49:
		default:
			require.Equal(t, 2, arches[fmt.Sprintf("b%d", i/2)], "build of writer %d", i)
		}
	}
	require.True(t, tags["keep"])
	require.Contains(t, string(data), `"own": 1.50`)
	require.Contains(t, string(data), `"policy-cleanup": {"cloud-uploads": true, "containers": true, "other": 1.0}`)
	require.Equal(t, "1", d.Value().Tombstones[0].ID)
}

func TestConcurrentUpdates(t *testing.T) { hundreds(t, memstore.New(), 100) }

// TestConcurrentDocuments has many writers of each other document of a stream: none loses
// what another wrote.
func TestConcurrentDocuments(t *testing.T) {
	const writers = 50
	store := memstore.New()
	write := func(key string, change func(i int) func([]byte) ([]byte, error)) []byte {
		opts := &publish.UpdateOptions{Attempts: 10 * writers, Delay: time.Millisecond, Jitter: rand.Float64}
		var wait sync.WaitGroup
		errs := make([]error, writers)
		for i := range writers {
			wait.Go(func() { _, errs[i] = publish.Update(t.Context(), store, key, change(i), opts) })
		}
		wait.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		data, _, err := publish.ReadDocument(t.Context(), store, key)
		require.NoError(t, err)
		return data
	}
	artifact := func(i int) string { return fmt.Sprintf("a%d", i) }
	data := write("meta.json", func(i int) func([]byte) ([]byte, error) {
		m := archMeta("x86_64")
		m.MetaStamp = json.Number(fmt.Sprint(1732567447000000000 + i))
		m.Images = map[string]bootimage.Image{artifact(i): {Path: artifact(i), SHA256: hash(artifact(i))}}
		m.AMIs = []bootimage.AMI{{Region: artifact(i), AMI: "ami-1", Snapshot: "s"}}
		return bootimage.MergeMeta(mustMeta(m))
	})
	meta, err := bootimage.DecodeMeta(bytes.NewReader(data))
	require.NoError(t, err)
	require.Len(t, meta.Value().AMIs, writers)
	require.Equal(t, fmt.Sprint(1732567447000000000+writers-1), meta.Value().MetaStamp.String())

	arch := func(i int) string { return fmt.Sprintf("arch%d", i) }
	data = write("release.json", func(i int) func([]byte) ([]byte, error) {
		return bootimage.MergeRelease([]byte(releaseOf("1", arch(i))))
	})
	release, err := bootimage.DecodeRelease(bytes.NewReader(data))
	require.NoError(t, err)
	data = write("releases.json", func(i int) func([]byte) ([]byte, error) {
		one, err := bootimage.DecodeRelease(strings.NewReader(releaseOf("1", arch(i))))
		require.NoError(t, err)
		all, err := bootimage.MergeRelease(one.Bytes())(nil)
		require.NoError(t, err)
		for j := range i { // a late architecture joins those that are there
			all, err = bootimage.MergeRelease([]byte(releaseOf("1", arch(j))))(all)
			require.NoError(t, err)
		}
		one, err = bootimage.DecodeRelease(bytes.NewReader(all))
		require.NoError(t, err)
		return bootimage.UpdateIndex(one.Value(), &bootimage.IndexOptions{URL: "https://e.example/1/release.json", LastModified: later})
	})
	index, err := bootimage.DecodeIndex(bytes.NewReader(data))
	require.NoError(t, err)
	require.Len(t, index.Value().Releases, 1)
	require.Len(t, index.Value().Releases[0].Commits, writers)

	data = write("updates.json", func(i int) func([]byte) ([]byte, error) {
		barrier := bootimage.UpdatesRelease{Version: fmt.Sprintf("%d", i), Metadata: bootimage.UpdatesMetadata{Barrier: &bootimage.UpdatesReason{Reason: "r"}}}
		return bootimage.AddUpdate(barrier, &bootimage.UpdatesOptions{Stream: "own", Now: later})
	})
	updates, err := bootimage.DecodeUpdates(bytes.NewReader(data))
	require.NoError(t, err)
	require.Len(t, updates.Value().Releases, writers)
	versions := map[string]bool{}
	for _, r := range updates.Value().Releases {
		versions[r.Version] = true
	}
	for i := range writers {
		require.Contains(t, meta.Value().Images, artifact(i))
		require.Contains(t, release.Value().Architectures, arch(i))
		require.True(t, versions[fmt.Sprint(i)], i)
	}
}

// TestTwoHundredWriters loses no change of a catalogue in a real S3 server.
func TestTwoHundredWriters(t *testing.T) {
	server := interop.S3(t)
	store, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: server.Bucket, Endpoint: server.Endpoint, Region: server.Region, PathStyle: true,
	}, &s3store.Options{AccessKey: server.AccessKey, SecretKey: server.SecretKey, Delay: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	hundreds(t, store, 200)
}

func TestMergeMeta(t *testing.T) {
	base := mustMeta(sampleMeta())
	change := func(data []byte, fn func(*bootimage.Meta)) []byte {
		d, err := bootimage.DecodeMeta(bytes.NewReader(data))
		require.NoError(t, err)
		require.NoError(t, d.Edit(func(m *bootimage.Meta) error { fn(m); return nil }))
		return d.Bytes()
	}
	mine := change(base, func(m *bootimage.Meta) {
		m.MetaStamp, m.Summary = "1732567447000000001", "mine"
		m.AMIs = []bootimage.AMI{{Region: "us-east-1", AMI: "ami-1", Snapshot: "s"}}
		m.PkgDiff = json.RawMessage(`[["a",1.50]]`)
		m.ImageConfigChecksum, m.ContainerImageGit = hash("config"), &bootimage.Git{Origin: "o", Commit: "012345"}
	})
	theirs := change(base, func(m *bootimage.Meta) {
		m.MetaStamp, m.Summary, m.BuildURL = "1732567447000000002", "theirs", "https://example.org/1"
		m.AMIs = []bootimage.AMI{{Region: "eu-west-1", AMI: "ami-2", Snapshot: "s"}, {Region: "us-east-1", AMI: "ami-1", Snapshot: "s"}}
		m.Images["vmware"] = bootimage.Image{Path: "v.ova", SHA256: hash("v")}
		m.ConfigGit.Branch = "other"
		m.ImageConfigChecksum, m.ContainerImageGit = hash("config"), &bootimage.Git{Origin: "o", Commit: "012345", Branch: "b"}
	})
	for name, order := range map[string][2][]byte{"newer joins": {mine, theirs}, "older joins": {theirs, mine}} {
		t.Run(name, func(t *testing.T) {
			data, err := bootimage.MergeMeta(order[1])(order[0])
			require.NoError(t, err)
			d, err := bootimage.DecodeMeta(bytes.NewReader(data))
			require.NoError(t, err)
			m := d.Value()
			require.Equal(t, "theirs", m.Summary)
			require.Equal(t, "1732567447000000002", m.MetaStamp.String())
			require.Equal(t, "other", m.ConfigGit.Branch)
			require.Equal(t, "https://example.org/1", m.BuildURL)
			require.Len(t, m.AMIs, 2)
			require.Contains(t, m.Images, "vmware")
			require.Contains(t, string(data), "1.50")
			again, err := bootimage.MergeMeta(order[1])(data)
			require.NoError(t, err)
			require.Equal(t, string(data), string(again))
		})
	}
	first, err := bootimage.MergeMeta(mine)(nil)
	require.NoError(t, err)
	require.Equal(t, string(mine), string(first))
	keys := regexp.MustCompile(`"(buildid|ostree-\w+|ostree-content-checksum|coreos-assembler\.[a-z-]+|images|sha256|commit)":`)
	shout := func(data []byte) []byte {
		return keys.ReplaceAllFunc(data, bytes.ToUpper)
	}
	for name, fn := range map[string]func(*bootimage.Meta){
		"ostree-commit":                          func(m *bootimage.Meta) { m.OSTreeCommit = hash("x") },
		"ostree-content-checksum":                func(m *bootimage.Meta) { m.OSTreeContentChecksum = hash("x") },
		"coreos-assembler.container-config-git":  func(m *bootimage.Meta) { m.ConfigGit.Commit = "abcdef" },
		"coreos-assembler.container-image-git":   func(m *bootimage.Meta) { m.ContainerImageGit.Commit = "abcdef" },
		"coreos-assembler.image-config-checksum": func(m *bootimage.Meta) { m.ImageConfigChecksum = hash("x") },
		"coreos-assembler.basearch":              func(m *bootimage.Meta) { m.Arch = "s390x" },
		"images.qemu.sha256":                     func(m *bootimage.Meta) { i := m.Images["qemu"]; i.SHA256 = hash("x"); m.Images["qemu"] = i },
		"buildid":                                func(m *bootimage.Meta) { m.BuildID = "x" },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bootimage.MergeMeta(change(theirs, fn))(mine)
			require.ErrorIs(t, err, fs.ErrExist)
			require.ErrorContains(t, err, name)
			// The same keys for Go's readers.
			_, err = bootimage.MergeMeta(shout(change(theirs, fn)))(shout(mine))
			require.ErrorIs(t, err, fs.ErrExist)
			require.ErrorContains(t, err, name[strings.LastIndexByte(name, '.')+1:])
		})
	}
	// Null is nothing, as to every reader of the record.
	null := func(old, now string) []byte {
		require.Contains(t, string(theirs), old)
		return []byte(strings.Replace(string(theirs), old, now, 1))
	}
	for name, other := range map[string][]byte{
		"in a list":        null(`"name": "eu-west-1"`, `"name": null, "o\u0077n": 1`),
		"a digest":         null(`"sha256": "`+hash("v")+`"`, `"sha256": "`+hash("v")+`", "uncompressed-sha256": null`),
		"what others have": null(`"summary": "theirs"`, `"summary": null`),
		"an address":       null(`"build-url": "https://example.org/1"`, `"build-url": null`),
	} {
		for _, order := range [][2][]byte{{mine, other}, {other, mine}} {
			once, err := bootimage.MergeMeta(order[1])(order[0])
			require.NoError(t, err, name)
			twice, err := bootimage.MergeMeta(order[1])(once)
			require.NoError(t, err, name)
			require.Equal(t, string(once), string(twice), name)
			d, err := bootimage.DecodeMeta(bytes.NewReader(once))
			require.NoError(t, err)
			require.Contains(t, []string{"mine", "theirs"}, d.Value().Summary, name)
		}
	}
	_, err = bootimage.MergeMeta(null(`"commit": "012345"`, `"commit": null`))(mine)
	require.ErrorIs(t, err, fs.ErrExist)
	_, err = bootimage.MergeMeta([]byte("{}"))(mine)
	require.ErrorContains(t, err, "buildid")
	_, err = bootimage.MergeMeta(bytes.Replace(mine, []byte(`"summary": "mine"`), []byte(`"own": [], "summary": "mine"`), 1))(bytes.Replace(mine, []byte(`"summary": "mine"`), []byte(`"own": {}, "summary": "mine"`), 1))
	require.ErrorContains(t, err, "own: of different types")
	_, err = bootimage.FinalizeMeta(mine)(nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// schema is what coreos-assembler's schema uses of JSON Schema draft 7.
type schema struct {
	defs map[string]any
}

func (s schema) check(rule map[string]any, value any, path string) (faults []string) {
	if ref, ok := rule["$ref"].(string); ok {
		faults = append(faults, s.check(s.defs[strings.TrimPrefix(ref, "#/definitions/")].(map[string]any), value, path)...)
	}
	fail := func(format string, args ...any) { faults = append(faults, path+": "+fmt.Sprintf(format, args...)) }
	if want, ok := rule["type"].(string); ok {
		var is bool
		switch v := value.(type) {
		case map[string]any:
			is = want == "object"
		case []any:
			is = want == "array"
		case string:
			is = want == "string"
		case bool:
			is = want == "boolean"
		case json.Number:
			is = want == "number" || want == "integer" && !strings.ContainsAny(v.String(), ".eE")
		}
		if !is {
			fail("want %s, got %T", want, value)
			return faults
		}
	}
	if text, ok := value.(string); ok {
		if n, ok := rule["minLength"].(json.Number); ok {
			if least, _ := n.Int64(); int64(len(text)) < least {
				fail("shorter than %d", least)
			}
		}
		if p, ok := rule["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(text) {
			fail("does not match %s", p)
		}
	}
	if list, ok := value.([]any); ok {
		if items, ok := rule["items"].(map[string]any); ok {
			for i, v := range list {
				faults = append(faults, s.check(items, v, fmt.Sprintf("%s[%d]", path, i))...)
			}
		}
	}
	object, ok := value.(map[string]any)
	if !ok {
		return faults
	}
	if required, ok := rule["required"].([]any); ok {
		for _, key := range required {
			if _, ok := object[key.(string)]; !ok {
				fail("%s is required", key)
			}
		}
	}
	properties, _ := rule["properties"].(map[string]any)
	for key, v := range object {
		if p, ok := properties[key].(map[string]any); ok {
			faults = append(faults, s.check(p, v, path+"."+key)...)
		} else if rule["additionalProperties"] == false {
			fail("%s is additional", key)
		}
	}
	return faults
}

func decodeNumbers(t *testing.T, data []byte) (v map[string]any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&v))
	return v
}

// TestSchemaAcceptsOurs holds our records to coreos-assembler's schema, and our
// check of records to the same verdicts.
func TestSchemaAcceptsOurs(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(interop.SharedData(t, "bootimage", "cosa"), "schema-v1.json"))
	require.NoError(t, err)
	rules := decodeNumbers(t, data)
	s := schema{rules["definitions"].(map[string]any)}
	whole := sampleMeta()
	delete(whole.Images, "newcloud")
	whole.AMIs[1].Snapshot, whole.AWSWinLI[0].Snapshot = "s", "s"
	whole.MetaStamp, whole.DelayedMetaMerge, whole.OverridesActive = "1732567447000000001", true, true
	whole.Images["qemu"] = bootimage.Image{Path: "q.qcow2", SHA256: hash("q"), Unstamped: true}
	whole.Koji = &bootimage.Koji{BuildID: "5", Token: "t", Release: "r"}
	whole.ExtensionsArtifact = &bootimage.ExtensionsArtifact{Path: "e.tar", SHA256: hash("e"), State: hash("s"), Manifest: json.RawMessage(`{"a": "b"}`)}
	whole.PkgDiff, whole.AdvisoriesDiff = json.RawMessage(`[["a", 0, {}]]`), json.RawMessage(`[]`)
	whole.OSContainer = &bootimage.ContainerImage{Image: "i", AdditionalImages: []bootimage.ContainerImage{{Image: "j", Digest: "d"}}}
	whole.ReleasePayload = whole.OSContainer
	whole.InputHash, whole.CacheHits, whole.ImageGenVersion = hash("i"), 5, 1
	whole.CodeSource, whole.ConfigDirty, whole.ContainerImageGit = "container", "false", &bootimage.Git{Origin: "o", Commit: "abcdef", Branch: "main"}
	for _, m := range [][]byte{mustMeta(whole), readShared(t, "meta-fcos.json"), readShared(t, "meta-rhcos.json")} {
		require.Empty(t, s.check(rules, decodeNumbers(t, m), ""))
		d, err := bootimage.DecodeMeta(bytes.NewReader(m))
		require.NoError(t, err)
		require.NoError(t, bootimage.ValidateMeta(d))
	}
	for key := range rules["properties"].(map[string]any) {
		d, err := bootimage.DecodeMeta(bytes.NewReader(mustMeta(whole)))
		require.NoError(t, err)
		_ = d.Override([]byte(`{"` + key + `": {}}`))
		require.NotContains(t, errorText(bootimage.ValidateMeta(d)), "not a key", key)
	}
	for name, change := range map[string]func(*bootimage.Meta){
		"ostree":     func(m *bootimage.Meta) { delete(m.Images, "ostree") },
		"snapshot":   func(m *bootimage.Meta) { m.AMIs[0].Snapshot = "" },
		"checksum":   func(m *bootimage.Meta) { m.InputHash = "short" },
		"timestamp":  func(m *bootimage.Meta) { m.OSTreeTimestamp = m.OSTreeTimestamp.In(time.FixedZone("", 3600)) },
		"git commit": func(m *bootimage.Meta) { m.ConfigGit = &bootimage.Git{Origin: "o", Commit: "abc"} },
	} {
		t.Run(name, func(t *testing.T) {
			d, err := bootimage.DecodeMeta(bytes.NewReader(mustMeta(whole)))
			require.NoError(t, err)
			require.NoError(t, d.Edit(func(m *bootimage.Meta) error { change(m); return nil }))
			require.NotEmpty(t, s.check(rules, decodeNumbers(t, d.Bytes()), ""))
			require.Error(t, bootimage.ValidateMeta(d))
		})
	}
}

func readShared(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(interop.SharedData(t, "bootimage", "cosa"), name))
	require.NoError(t, err)
	return data
}

func TestValidateMeta(t *testing.T) {
	d, err := bootimage.DecodeMeta(bytes.NewReader(mustMeta(sampleMeta())))
	require.NoError(t, err)
	require.NoError(t, d.Override([]byte(`{"own.key": 1}`)))
	require.Equal(t, `bootimage: meta.json: ["own.key"]: not a key of the schema: strict readers refuse the record
bootimage: meta.json: amis[1]: name, hvm or snapshot missing
bootimage: meta.json: aws-winli[0]: name, hvm or snapshot missing
bootimage: meta.json: images.newcloud: not an artifact of the schema`, errorText(bootimage.ValidateMeta(d)))
}

// cosaFolder is a folder of coreos-assembler's with one build.
func cosaFolder(t testing.TB, change func(*bootimage.Meta)) fstest.MapFS {
	t.Helper()
	disk := []byte("a disk")
	sum := sha256.Sum256(disk)
	m := archMeta("x86_64")
	m.Images = map[string]bootimage.Image{"ostree": {Path: "o.ociarchive", SHA256: hex.EncodeToString(sum[:]), Size: 6}}
	fragment := m
	fragment.Images = map[string]bootimage.Image{"qemu": {Path: "q.qcow2", SHA256: hex.EncodeToString(sum[:]), Size: 6}}
	m.DelayedMetaMerge = true
	m.ExtensionsArtifact = &bootimage.ExtensionsArtifact{Path: "x.tar", SHA256: sum256([]byte("extensions")), Manifest: json.RawMessage(`{}`)}
	if change != nil {
		change(&m)
	}
	dir := m.BuildID + "/x86_64/"
	builds, err := bootimage.AddBuild(bootimage.Build{ID: m.BuildID, Arch: "x86_64", Time: later})(nil)
	require.NoError(t, err)
	return fstest.MapFS{
		"builds.json":          {Data: builds},
		dir + "meta.json":      {Data: mustMeta(m)},
		dir + "meta.qemu.json": {Data: mustMeta(fragment)},
		dir + "o.ociarchive":   {Data: disk},
		dir + "q.qcow2":        {Data: disk},
		dir + "commitmeta.json": {Data: []byte(`{"version": "1", "own": 1.50,
			"rpmostree.rpmdb.pkglist": [["bash", "0", "5.2", "1.el10", "x86_64"]]}`)},
		dir + "manifest-lock.generated.x86_64.json": {Data: []byte("{}")},
		dir + ".qemu.building":                      {},
		dir + "q.qcow2.sig":                         {Data: []byte("signature")},
		dir + "x.tar":                               {Data: []byte("extensions")},
		dir + "x.tar.sig":                           {Data: []byte("signature of extensions")},
		dir + "release.json":                        {Data: []byte(releaseOf(m.BuildID, "x86_64"))},
	}
}

func TestImportBuild(t *testing.T) {
	fsys := cosaFolder(t, nil)
	for _, checksums := range []bool{false, true} {
		b, err := bootimage.ImportBuild(t.Context(), fsys, "x86_64", &bootimage.ImportOptions{Checksums: checksums})
		require.NoError(t, err)
		require.False(t, b.Meta.Value().DelayedMetaMerge)
		require.Len(t, b.Meta.Value().Images, 2)
		require.Equal(t, bootimage.Package{Name: "bash", Epoch: "0", Version: "5.2", Release: "1.el10", Arch: "x86_64"}, b.CommitMeta.Value().Packages[0])
		require.Contains(t, string(b.CommitMeta.Bytes()), "1.50")
		var got []string
		for _, f := range b.Files {
			key, err := bootimage.StreamBucket("own").Key(f.BucketFile)
			require.NoError(t, err)
			got = append(got, strings.TrimPrefix(key, "prod/streams/own/builds/9.0.20250222-0/x86_64/"))
		}
		require.Equal(t, []string{"o.ociarchive", "q.qcow2", "x.tar", "q.qcow2.sig", "x.tar.sig", "commitmeta.json", "manifest-lock.generated.x86_64.json"}, got)
		require.Equal(t, releaseOf(b.ID, "x86_64"), string(b.Release.Bytes()))
		require.Equal(t, []bootimage.BuildEntry{{ID: b.ID, Arches: []string{"x86_64"}}}, b.Catalogue.Value().Builds)
	}
	cleaned, err := bootimage.CleanBuild("9.0.20250222-0", bootimage.Cleanup{Images: true, ImagesKept: []string{"qemu"}}, later)(fsys["builds.json"].Data)
	require.NoError(t, err)
	fsys["builds.json"].Data = cleaned
	delete(fsys, "9.0.20250222-0/x86_64/o.ociarchive")
	b, err := bootimage.ImportBuild(t.Context(), fsys, "x86_64", &bootimage.ImportOptions{Build: "9.0.20250222-0"})
	require.NoError(t, err)
	require.Equal(t, "q.qcow2", b.Files[0].Name)

	for name, tt := range map[string]struct {
		arch, build string
		change      func(fstest.MapFS)
		is          error
		want        string
	}{
		"no builds.json": {"x86_64", "", func(f fstest.MapFS) { delete(f, "builds.json") }, fs.ErrNotExist, "builds.json"},
		"arch":           {"s390x", "", nil, fs.ErrNotExist, "no build for s390x"},
		"build":          {"x86_64", "7", nil, fs.ErrNotExist, `build "7"`},
		"arch of build":  {"s390x", "9.0.20250222-0", nil, fs.ErrNotExist, "build 9.0.20250222-0 for s390x"},
		"escape":         {"../x", "", nil, nil, "not an architecture"},
		"no disk":        {"x86_64", "", func(f fstest.MapFS) { delete(f, "9.0.20250222-0/x86_64/q.qcow2") }, fs.ErrNotExist, "artifact qemu: "},
		"size":           {"x86_64", "", func(f fstest.MapFS) { f["9.0.20250222-0/x86_64/q.qcow2"].Data = []byte("longer disk") }, nil, "has 11 bytes, the record says 6"},
		"content":        {"x86_64", "", func(f fstest.MapFS) { f["9.0.20250222-0/x86_64/q.qcow2"].Data = []byte("b disk") }, nil, "the record says"},
		"extensions":     {"x86_64", "", func(f fstest.MapFS) { f["9.0.20250222-0/x86_64/x.tar"].Data = []byte("other") }, nil, "extensions: 9.0.20250222-0/x86_64/x.tar has SHA-256"},
		"no extensions":  {"x86_64", "", func(f fstest.MapFS) { delete(f, "9.0.20250222-0/x86_64/x.tar") }, fs.ErrNotExist, "extensions: "},
		"release":        {"x86_64", "", func(f fstest.MapFS) { f["9.0.20250222-0/x86_64/release.json"].Data = []byte(releaseOf("8", "x86_64")) }, nil, "release.json is of release 8"},
		"folder":         {"x86_64", "", func(f fstest.MapFS) { f["9.0.20250222-0/x86_64/q.qcow2"].Mode = fs.ModeDir }, nil, "is no regular file"},
		"commitmeta": {"x86_64", "", func(f fstest.MapFS) {
			f["9.0.20250222-0/x86_64/commitmeta.json"].Data = []byte(`{"rpmostree.rpmdb.pkglist": [["bash"]]}`)
		}, nil, "package of 1 parts"},
		"of another": {"x86_64", "", func(f fstest.MapFS) {
			f["9.0.20250222-0/x86_64/meta.json"].Data = bytes.ReplaceAll(f["9.0.20250222-0/x86_64/meta.json"].Data, []byte(`"buildid": "9`), []byte(`"buildid": "8`))
		}, nil, "is of build 8"},
		"fragment": {"x86_64", "", func(f fstest.MapFS) {
			f["9.0.20250222-0/x86_64/meta.qemu.json"].Data = bytes.ReplaceAll(f["9.0.20250222-0/x86_64/meta.qemu.json"].Data, []byte("abab"), []byte("cdcd"))
		}, fs.ErrExist, "ostree-commit"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := cosaFolder(t, nil)
			if tt.change != nil {
				tt.change(fsys)
			}
			_, err := bootimage.ImportBuild(t.Context(), fsys, tt.arch, &bootimage.ImportOptions{Build: tt.build, Checksums: true})
			require.ErrorContains(t, err, tt.want)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = bootimage.ImportBuild(ctx, cosaFolder(t, nil), "x86_64", &bootimage.ImportOptions{Checksums: true})
	require.ErrorIs(t, err, context.Canceled)
}

func TestBuildOrigin(t *testing.T) {
	fsys := cosaFolder(t, func(m *bootimage.Meta) {
		m.Images["metal"] = bootimage.Image{Path: "m.raw", SHA256: hash("m"), Size: 7}
		m.AMIs = []bootimage.AMI{{Region: "us-east-1", AMI: "ami-1"}}
	})
	o, err := bootimage.BuildOrigin(fsys, "", &bootimage.OriginOptions{BaseURL: "https://e.example/builds"})
	require.NoError(t, err)
	require.Len(t, o.Entries, 2)
	require.Equal(t, "https://e.example/builds/9.0.20250222-0/x86_64/m.raw", o.Entries[0].URL)
	require.Equal(t, int64(7), o.Entries[0].Size)
	require.Equal(t, "own", o.Stream)
	// The release.json, at either place, says where files are that records do not.
	sum := hash("m")
	place := "https://p.example/own/9.0.20250222-0/m.raw"
	text := `{"release": "9.0.20250222-0", "stream": "published", "architectures": {"x86_64": {"media": {"metal": {"artifacts": {"raw": {"disk":
		{"location": "` + place + `", "signature": "` + place + `.sig", "sha256": "` + sum + `"}}}}}}}}`
	delete(fsys, "9.0.20250222-0/x86_64/release.json")
	for _, at := range []string{"9.0.20250222-0/x86_64/release.json", "9.0.20250222-0/release.json"} {
		fsys[at] = &fstest.MapFile{Data: []byte(text)}
		o, err = bootimage.BuildOrigin(fsys, "", nil)
		require.NoError(t, err)
		require.Equal(t, "published", o.Stream)
		require.Equal(t, []string{place, place + ".sig"}, []string{o.Entries[0].URL, o.Entries[0].Signature})
		o, err = bootimage.BuildOrigin(fsys, "", &bootimage.OriginOptions{BaseURL: "https://e.example/builds"})
		require.NoError(t, err)
		require.Equal(t, []string{"https://e.example/builds/9.0.20250222-0/x86_64/m.raw", ""}, []string{o.Entries[0].URL, o.Entries[0].Signature})
		delete(fsys, at)
	}
	fsys["9.0.20250222-0/x86_64/release.json"] = &fstest.MapFile{Data: []byte("{")}
	_, err = bootimage.BuildOrigin(fsys, "", nil)
	require.ErrorContains(t, err, "release.json")
	delete(fsys, "9.0.20250222-0/x86_64/release.json")
	cleaned, err := bootimage.CleanBuild("9.0.20250222-0", bootimage.Cleanup{CloudUploads: true, Images: true}, later)(fsys["builds.json"].Data)
	require.NoError(t, err)
	fsys["builds.json"].Data = cleaned
	o, err = bootimage.BuildOrigin(fsys, "9.0.20250222-0", nil)
	require.NoError(t, err)
	require.Empty(t, o.Entries)
	_, err = bootimage.BuildOrigin(fsys, "7", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	fsys["builds.json"].Data = []byte(`{"schema-version": "1.0.0", "builds": []}`)
	_, err = bootimage.BuildOrigin(fsys, "", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = bootimage.BuildOrigin(fstest.MapFS{}, "", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func ExampleTagBuild() {
	now := time.Date(2026, 11, 25, 20, 54, 7, 0, time.UTC)
	data, err := bootimage.AddBuild(bootimage.Build{ID: "10.0.20261125-0", Arch: "x86_64", Time: now})(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, change := range []func([]byte) ([]byte, error){
		bootimage.TagBuild(bootimage.BuildTag{Name: "5.0", Target: "10.0.20261125-0"}, now),
		bootimage.CleanBuild("10.0.20261125-0", bootimage.Cleanup{CloudUploads: true}, now),
		bootimage.UntagBuild("5.0", now),
		bootimage.DeleteBuild("10.0.20261125-0", now),
	} {
		if data, err = change(data); err != nil {
			fmt.Println(err)
			return
		}
	}
	builds, err := bootimage.DecodeBuilds(bytes.NewReader(data))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(builds.Value().Builds), builds.Value().Tombstones[0].ID)
	// Output: 0 10.0.20261125-0
}

// Two jobs write records of one build; a third has a disk more, in a fragment.
func ExampleMergeMeta() {
	encode := func(change func(*bootimage.Meta)) []byte {
		m := archMeta("x86_64")
		change(&m)
		d, err := bootimage.NewDocument(m)
		if err != nil {
			panic(err)
		}
		return d.Bytes()
	}
	first := encode(func(m *bootimage.Meta) { m.Summary = "SCOS" })
	second := encode(func(m *bootimage.Meta) {
		m.AMIs = []bootimage.AMI{{Region: "us-east-1", AMI: "ami-1", Snapshot: "snap-1"}}
	})
	fragment := encode(func(m *bootimage.Meta) {
		m.Images = map[string]bootimage.Image{"ostree": {Path: "scos.ociarchive", SHA256: strings.Repeat("ef", 32)}}
	})
	data, err := bootimage.MergeMeta(second)(first)
	if err == nil {
		data, err = bootimage.FinalizeMeta(fragment)(data)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := bootimage.DecodeMeta(bytes.NewReader(data))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Value().Summary, d.Value().AMIs[0].AMI, len(d.Value().Images), bootimage.ValidateMeta(d))
	// Output: SCOS ami-1 2 <nil>
}

func ExampleImportBuild() {
	fsys := fstest.MapFS{
		"builds.json":              {Data: []byte(`{"schema-version": "1.0.0", "builds": [{"id": "1", "arches": ["x86_64"]}]}`)},
		"1/x86_64/meta.json":       {Data: []byte(`{"buildid": "1", "name": "own", "ostree-commit": "` + strings.Repeat("ab", 32) + `", "ostree-timestamp": "2026-11-25T20:54:07Z", "ostree-version": "1"}`)},
		"1/x86_64/commitmeta.json": {Data: []byte(`{"version": "1"}`)},
	}
	build, err := bootimage.ImportBuild(context.Background(), fsys, "x86_64", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	commit, err := bootimage.DecodeCommitMeta(bytes.NewReader(build.CommitMeta.Bytes()))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(build.ID, build.Files[0].Path, commit.Value().Version)
	origin, err := bootimage.BuildOrigin(fsys, build.ID, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(origin.Kind, len(origin.Entries))
	// Output:
	// 1 1/x86_64/commitmeta.json 1
	// meta 0
}

func FuzzMergeMeta(f *testing.F) {
	m := mustMeta(sampleMeta())
	f.Add(m, []byte(`{"buildid":"b","name":"n","ostree-commit":"`+hash("c")+`","ostree-timestamp":"2026-11-25T20:54:07Z","ostree-version":"b","pkgdiff":[1,[2]]}`))
	for doc := range mutants.Of(m) {
		f.Add(m, []byte(doc))
		f.Add([]byte(doc), m)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var merged []byte
		var err error
		fuzzbound.Linear(t, len(a)+len(b), 2000, func() { merged, err = bootimage.MergeMeta(b)(a) })
		if err != nil || len(a) == 0 {
			return
		}
		again, err := bootimage.MergeMeta(b)(merged)
		require.NoError(t, err)
		require.Equal(t, string(merged), string(again))
		d, err := bootimage.DecodeMeta(bytes.NewReader(merged))
		require.NoError(t, err)
		_ = bootimage.ValidateMeta(d)
	})
}

func FuzzDecodeCommitMeta(f *testing.F) {
	mutants.Add(f, `{"version": "1", "rpmostree.rpmdb.pkglist": [["a", "0", "1", "2", "noarch"]], "own": 1.0}`)
	fuzzDocument(f, bootimage.DecodeCommitMeta, func(c *bootimage.CommitMeta) { c.Synthetic = true })
}
