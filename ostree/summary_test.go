package ostree_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// staticServer serves a folder as any web server does, and gives its address.
func staticServer(t testing.TB, path string) string {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(path)))
	t.Cleanup(server.Close)
	return server.URL
}

// sampleSummary has everything that a summary can.
func sampleSummary() *ostree.Summary {
	return &ostree.Summary{
		Refs: []ostree.SummaryRef{
			{Name: "os/aarch64/stable", Commit: ostree.Checksum{1}, Size: 254, Metadata: []ostree.MetadataItem{{Key: "ostree.commit.version", Value: ostree.StringVariant("1")}}},
			{Name: "os/x86_64/stable", Commit: ostree.Checksum{2}, Size: 142},
		},
		Metadata: []ostree.MetadataItem{{Key: "ostree.summary.mode", Value: ostree.StringVariant("archive-z2")}, {Key: "ostree.summary.tombstone-commits", Value: ostree.BoolVariant(false)}},
	}
}

func TestSummaryRoundTrip(t *testing.T) {
	for _, s := range []*ostree.Summary{{}, sampleSummary()} {
		data, err := s.Marshal()
		require.NoError(t, err)
		got, err := ostree.DecodeSummary(data)
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	ref, ok := sampleSummary().Ref("os/x86_64/stable")
	require.True(t, ok)
	require.Equal(t, ostree.Checksum{2}, ref.Commit)
	_, ok = sampleSummary().Ref("os/x86_64")
	require.False(t, ok)
}

func TestSummaryFaults(t *testing.T) {
	for name, edit := range map[string]func(*ostree.Summary){
		"order":      func(s *ostree.Summary) { s.Refs[0], s.Refs[1] = s.Refs[1], s.Refs[0] },
		"twice":      func(s *ostree.Summary) { s.Refs[1].Name = s.Refs[0].Name },
		"escapes":    func(s *ostree.Summary) { s.Refs[0].Name = "../../etc/passwd" },
		"remote":     func(s *ostree.Summary) { s.Refs[0].Name = "origin:os" },
		"key twice":  func(s *ostree.Summary) { s.Metadata = append(s.Metadata, s.Metadata[0]) },
		"no variant": func(s *ostree.Summary) { s.Metadata[0].Value.Type = "(" },
	} {
		s := sampleSummary()
		edit(s)
		_, err := s.Marshal()
		require.Error(t, err, name)
	}
	data, err := sampleSummary().Marshal()
	require.NoError(t, err)
	for i := range data {
		_, err := ostree.DecodeSummary(data[:i])
		if i > 0 { // no bytes at all are an empty summary's default, and refused too
			require.ErrorIs(t, err, ostree.ErrCorrupt, i)
		}
	}
	// Names that a serializer here refuses to write.
	for _, bad := range []string{"../../../etc/xpasswd", "os//x86_64/stablexxxx"} {
		broken := []byte(strings.Replace(string(data), "os/aarch64/stable", bad[:len("os/aarch64/stable")], 1))
		_, err := ostree.DecodeSummary(broken)
		require.ErrorIs(t, err, ostree.ErrCorrupt, bad)
	}
}

func FuzzDecodeSummary(f *testing.F) {
	for _, s := range []*ostree.Summary{{}, sampleSummary()} {
		data, err := s.Marshal()
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ostree.DecodeSummary(data)
		bounded(t, data, 8, func() { _, _ = ostree.DecodeSummary(data) })
		if err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
			return
		}
		if deltas, err := s.Deltas(); err != nil {
			require.ErrorIs(t, err, ostree.ErrCorrupt)
		} else {
			require.LessOrEqual(t, len(deltas), len(data)/ostree.ChecksumSize)
		}
		again, err := s.Marshal()
		if err != nil {
			return // decoding is laxer: keys may repeat
		}
		require.Equal(t, data, again)
	})
}

func BenchmarkDecodeSummary(b *testing.B) {
	s := &ostree.Summary{}
	for i := range 10_000 {
		s.Refs = append(s.Refs, ostree.SummaryRef{Name: fmt.Sprintf("os/x86_64/branch-%05d", i), Commit: ostree.Checksum{byte(i)}, Size: 200})
	}
	data, err := s.Marshal()
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := ostree.DecodeSummary(data)
		require.NoError(b, err)
	}
}

// summaryRepo is an archive repository with two refs, an alias and a remote's ref.
func summaryRepo(t testing.TB) (*ostree.Repo, ostree.Checksum) {
	r := newRepo(t, ostree.ModeArchive)
	c, err := r.Commit(t.Context(), literal(dir("."), file("a", "one")), &ostree.CommitOptions{Ref: "os/stable", Subject: "first", Timestamp: time.Unix(1_700_000_000, 0),
		Metadata: []ostree.MetadataItem{{Key: "version", Value: ostree.StringVariant("1.2")}, ostree.RefBinding("os/stable")}})
	require.NoError(t, err)
	_, err = r.Commit(t.Context(), literal(dir("."), file("a", "two")), &ostree.CommitOptions{Ref: "os/next"})
	require.NoError(t, err)
	require.NoError(t, r.SetAlias(t.Context(), "os/latest", "os/stable"))
	require.NoError(t, r.SetRef(t.Context(), "origin:os/stable", c))
	return r, c
}

func readSummary(t testing.TB, r *ostree.Repo) *ostree.Summary {
	t.Helper()
	data, _, err := r.ReadSummary(t.Context())
	require.NoError(t, err)
	s, err := ostree.DecodeSummary(data)
	require.NoError(t, err)
	return s
}

func TestUpdateSummary(t *testing.T) {
	r, c := summaryRepo(t)
	_, _, err := r.ReadSummary(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)

	now := time.Unix(1_800_000_000, 0).UTC()
	opts := &ostree.SummaryOptions{LastModified: now, Metadata: []ostree.MetadataItem{{Key: "zz.own", Value: ostree.Uint32Variant(7)}, {Key: "ostree.summary.mode", Value: ostree.StringVariant("lie")}}}
	require.NoError(t, r.UpdateSummary(t.Context(), opts))
	s := readSummary(t, r)
	var names []string
	for _, ref := range s.Refs {
		names = append(names, ref.Name)
	}
	require.Equal(t, []string{"os/latest", "os/next", "os/stable"}, names)
	stable, ok := s.Ref("os/stable")
	require.True(t, ok)
	require.Equal(t, c, stable.Commit)
	require.Equal(t, time.Unix(1_700_000_000, 0).UTC(), stable.Timestamp())
	version, _ := stable.Lookup("ostree.commit.version")
	require.Equal(t, ostree.StringVariant("1.2"), version)
	require.Equal(t, now, s.LastModified())
	mode, _ := s.Lookup("ostree.summary.mode")
	require.Equal(t, ostree.StringVariant("archive-z2"), mode)
	own, _ := s.Lookup("zz.own")
	require.Equal(t, ostree.Uint32Variant(7), own)
	config, err := os.ReadFile(filepath.Join(r.Path(), "config"))
	require.NoError(t, err)
	require.Contains(t, string(config), "indexed-deltas=true\n")

	// The same again is the same bytes.
	before, _, err := r.ReadSummary(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.UpdateSummary(t.Context(), opts))
	after, sig, err := r.ReadSummary(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Nil(t, sig)

	// A ref of a commit that is not there.
	require.NoError(t, os.Remove(filepath.Join(r.Path(), "objects", c.String()[:2], c.String()[2:]+".commit")))
	require.ErrorIs(t, r.UpdateSummary(t.Context(), nil), os.ErrNotExist)
	kept, _, err := r.ReadSummary(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, kept)
}

func TestUpdateSummarySigned(t *testing.T) {
	r, _ := summaryRepo(t)
	signer := edKey(t, 1)
	sign := &ostree.SummaryOptions{Sign: []ostree.SummarySigner{{Kind: ostree.SignatureEd25519, Signer: signer}}}
	require.NoError(t, r.UpdateSummary(t.Context(), sign))
	data, sig, err := r.ReadSummary(t.Context())
	require.NoError(t, err)
	items, err := ostree.DecodeMetadata(sig)
	require.NoError(t, err)
	v := verifier(t, ostree.KeyFiles{Ed25519: [][]byte{[]byte(signer.Public())}})
	verdicts, err := v.Verify(t.Context(), data, items, time.Time{})
	require.NoError(t, err)
	require.Len(t, verdicts, 1)

	// A signer that fails changes nothing; an unsigned summary takes the signature away.
	failing := signerFunc(func(context.Context, io.Reader) ([]byte, error) { return nil, errors.New("no key") })
	err = r.UpdateSummary(t.Context(), &ostree.SummaryOptions{LastModified: time.Unix(1, 0), Sign: []ostree.SummarySigner{{Kind: ostree.SignatureEd25519, Signer: failing}}})
	require.ErrorContains(t, err, "no key")
	same, sameSig, err := r.ReadSummary(t.Context())
	require.NoError(t, err)
	require.Equal(t, data, same)
	require.Equal(t, sig, sameSig)
	require.NoError(t, r.UpdateSummary(t.Context(), nil))
	_, sig, err = r.ReadSummary(t.Context())
	require.NoError(t, err)
	require.Nil(t, sig)
	noLitter(t, r)
}

// TestUpdateSummaryRefuses refuses what is not written here.
func TestUpdateSummaryRefuses(t *testing.T) {
	r, c := summaryRepo(t)
	mirror := filepath.Join(r.Path(), "refs", "mirrors", "org.example", "os")
	require.NoError(t, os.MkdirAll(filepath.Dir(mirror), 0o755))
	require.NoError(t, os.WriteFile(mirror, []byte(c.String()+"\n"), 0o644))
	require.ErrorIs(t, r.UpdateSummary(t.Context(), nil), errors.ErrUnsupported)
	require.NoError(t, os.Remove(mirror))
	require.NoError(t, r.UpdateSummary(t.Context(), nil))
	require.NoError(t, r.SetConfig(t.Context(), "core", "collection-id", "org.example"))
	require.ErrorIs(t, r.UpdateSummary(t.Context(), nil), errors.ErrUnsupported)
}

// summaryLines are what `ostree summary --view` says, without the time it was
// made and in an order of their own: that of dictionaries is not defined.
func summaryLines(t testing.TB, text string) []string {
	t.Helper()
	lines := strings.Split(regexp.MustCompile(`(?m)^(Last-Modified|Static Deltas).*$`).ReplaceAllString(text, ""), "\n")
	sort.Strings(lines)
	return lines
}

// TestSummaryInterop compares summaries of the same repository made by both.
func TestSummaryInterop(t *testing.T) {
	interop.Peer(t, "ostree", "tar", "zstd")
	for _, name := range []string{"repo-archive", "static-deltas"} {
		path := unpack(t, "repo-archive")
		if name == "static-deltas" {
			archive, deltas := interop.SharedData(t, "ostree", name+".tar.zst"), t.TempDir()
			run(t, "tar", "--zstd", "-xpf", archive, "-C", deltas, "./repo-archive")
			deltas = filepath.Join(deltas, "repo-archive")
			for _, part := range []string{"deltas", "delta-indexes"} {
				require.NoError(t, os.RemoveAll(filepath.Join(path, part)))
				run(t, "cp", "-a", filepath.Join(deltas, part), path)
			}
		}
		r, err := ostree.Open(t.Context(), path, nil)
		require.NoError(t, err)
		defer r.Close()
		listing := func() map[string]map[ostree.DeltaName]ostree.Checksum {
			found := make(map[string]map[ostree.DeltaName]ostree.Checksum)
			names, err := filepath.Glob(filepath.Join(path, "delta-indexes", "*", "*"))
			require.NoError(t, err)
			for _, name := range names {
				data, err := os.ReadFile(name)
				require.NoError(t, err)
				items, err := ostree.DecodeMetadata(data)
				require.NoError(t, err)
				found[name], err = (&ostree.Summary{Metadata: items}).Deltas()
				require.NoError(t, err)
			}
			return found
		}
		view := func(flag string) string { return run(t, "ostree", "--repo="+path, "summary", flag) }

		run(t, "ostree", "--repo="+path, "summary", "-u", "-m", "fixture.key='value'")
		theirs, theirSummary, theirIndexes := view("-v"), readSummary(t, r), listing()
		run(t, "rm", "-rf", filepath.Join(path, "delta-indexes"))
		require.NoError(t, r.UpdateSummary(t.Context(), &ostree.SummaryOptions{LastModified: theirSummary.LastModified(),
			Metadata: []ostree.MetadataItem{{Key: "fixture.key", Value: ostree.StringVariant("value")}}}))
		ours := readSummary(t, r)
		require.Equal(t, summaryLines(t, theirs), summaryLines(t, view("-v")), name)
		require.NotEmpty(t, view("--raw"))
		require.Equal(t, theirIndexes, listing(), name)
		// Each ref, item by item.
		require.Len(t, ours.Refs, len(theirSummary.Refs))
		for i := range ours.Refs {
			a, b := ours.Refs[i], theirSummary.Refs[i]
			require.ElementsMatch(t, a.Metadata, b.Metadata)
			a.Metadata, b.Metadata = nil, nil
			require.Equal(t, b, a)
		}
		a, err := ours.Deltas()
		require.NoError(t, err)
		b, err := theirSummary.Deltas()
		require.NoError(t, err)
		require.Equal(t, b, a)
		if name == "static-deltas" {
			require.NotEmpty(t, a)
		}
		// A delta that is gone takes its line in the index away.
		run(t, "rm", "-rf", filepath.Join(path, "deltas"))
		require.NoError(t, r.UpdateSummary(t.Context(), nil))
		require.Empty(t, listing())
	}
}

// TestSummarySignatureInterop verifies each side's signature on the other.
func TestSummarySignatureInterop(t *testing.T) {
	interop.Peer(t, "ostree", "gpg", "gpgconf")
	r, _ := summaryRepo(t)
	home, gpg := gpgHome(t, "one")
	keys := filepath.Join(t.TempDir(), "keys.pgp")
	require.NoError(t, os.WriteFile(keys, append([]byte(gpg("--export", "=one")), pgpFile(t, "rsa.pgp")...), 0o600))
	server := staticServer(t, r.Path())
	pull := func() {
		client := peerRepo(t, ostree.ModeArchive)
		run(t, "ostree", "--repo="+client, "remote", "add", "--set=gpg-verify=false", "--set=gpg-verify-summary=true", "--gpg-import="+keys, "origin", server)
		run(t, "ostree", "--repo="+client, "pull", "origin", "os/stable")
	}
	signer := pgpKey(t, "rsa", keyDay(100), pgpsigner.SignerOptions{})
	require.NoError(t, r.UpdateSummary(t.Context(), &ostree.SummaryOptions{Sign: []ostree.SummarySigner{{Kind: ostree.SignatureGPG, Signer: signer}}}))
	pull()
	// Signed by `ostree`, verified here.
	run(t, "ostree", "--repo="+r.Path(), "summary", "-u", "--gpg-homedir="+home, "--gpg-sign="+fingerprint(t, gpg, "one"))
	pull()
	data, sig, err := r.ReadSummary(t.Context())
	require.NoError(t, err)
	items, err := ostree.DecodeMetadata(sig)
	require.NoError(t, err)
	_, err = verifier(t, ostree.KeyFiles{GPG: [][]byte{[]byte(gpg("--export", "=one"))}}).Verify(t.Context(), data, items, time.Now())
	require.NoError(t, err)
}
