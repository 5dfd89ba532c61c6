package publishtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/okd-project/okd-streams/publish"
)

// TestStore runs the conformance suite of [publish.Store]. open gives an empty
// store; it is called once for each case, from parallel subtests.
//
// Each case is a subtest, independent of the others and of their order. A store
// may answer [errors.ErrUnsupported] where [publish.PutOptions] and
// [publish.Store] allow it; then it must have written nothing. The largest
// object has 20 MiB; that case is skipped with -short. The last case looks for
// goroutines that are left and wants no other test to run beside it.
func TestStore(t *testing.T, open func(t *testing.T) publish.Store) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Run("cases", func(t *testing.T) {
		for _, c := range storeCases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, open(t))
			})
		}
	})
	t.Run("goroutines", func(t *testing.T) { checkGoroutines(t, before) })
}

var storeCases = []struct {
	name string
	run  func(t *testing.T, s publish.Store)
}{
	{"missing key", storeMissingKey},
	{"put and read back", storePutAndReadBack},
	{"empty object", storeEmptyObject},
	{"large object", storeLargeObject},
	{"replace", storeReplace},
	{"delete", storeDelete},
	{"bad keys", storeBadKeys},
	{"bad options", storeBadOptions},
	{"weird keys", storeWeirdKeys},
	{"key that begins another", storeKeyBeginsAnother},
	{"wrong digest", storeWrongDigest},
	{"wrong size", storeWrongSize},
	{"source that fails", storeSourceFails},
	{"context done before", storeContextBefore},
	{"context done during put", storeContextDuringPut},
	{"context done during read", storeContextDuringRead},
	{"stale revision", storeStaleRevision},
	{"revision of a missing key", storeRevisionOfMissing},
	{"if absent", storeIfAbsent},
	{"revisions agree", storeRevisionsAgree},
	{"list", storeList},
	{"list of 1001 keys", storeListMany},
	{"list left early", storeListLeftEarly},
	{"reader left early", storeReaderLeftEarly},
	{"reader across a replacement", storeReaderAcrossReplacement},
	{"concurrent update", storeConcurrentUpdate},
	{"concurrent if absent", storeConcurrentIfAbsent},
	{"concurrent put and read", storeConcurrentPutAndRead},
	{"progress", storeProgress},
}

// source counts how it is used and misbehaves where told to.
type source struct {
	data   []byte
	size   int64              // 0: of data
	fail   error              // after all of data
	open   error              // instead of a reader
	cancel context.CancelFunc // called after half of data
	opened atomic.Int32
	closed atomic.Int32
}

func (s *source) Size() int64 {
	if s.size != 0 {
		return s.size
	}
	return int64(len(s.data))
}

func (s *source) Open(context.Context) (io.ReadCloser, error) {
	if s.open != nil {
		return nil, s.open
	}
	s.opened.Add(1)
	return &sourceReader{s: s, data: s.data}, nil
}

type sourceReader struct {
	s    *source
	data []byte
}

func (r *sourceReader) Read(p []byte) (int, error) {
	if r.s.cancel != nil && len(r.data) <= len(r.s.data)/2 {
		r.s.cancel()
	}
	if len(r.data) == 0 {
		if r.s.fail != nil {
			return 0, r.s.fail
		}
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 32<<10)], r.data)
	r.data = r.data[n:]
	return n, nil
}

func (r *sourceReader) Close() error {
	r.s.closed.Add(1)
	return nil
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

// content is size bytes that depend on seed alone.
func content(seed uint64, size int) []byte {
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(data) // never fails
	return data
}

func mustPut(t testing.TB, s publish.Store, key string, data []byte, opts *publish.PutOptions) publish.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, publish.BytesSource(data), opts)
	require.NoError(t, err)
	return info
}

func read(ctx context.Context, s publish.Store, key string) ([]byte, publish.Info, error) {
	body, info, err := s.Open(ctx, key)
	if err != nil {
		return nil, publish.Info{}, err
	}
	data, err := io.ReadAll(body)
	return data, info, errors.Join(err, body.Close())
}

// requireContent checks what Open, Stat and List say about key.
func requireContent(t testing.TB, s publish.Store, key string, want []byte) publish.Info {
	t.Helper()
	data, opened, err := read(t.Context(), s, key)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, data), "%q holds %d bytes, want %d", key, len(data), len(want))
	stat, err := s.Stat(t.Context(), key)
	require.NoError(t, err)
	listed := listInfos(t, s, key)
	require.NotEmpty(t, listed, "list of %q", key)
	for _, info := range []publish.Info{opened, stat, listed[0]} {
		require.Equal(t, key, info.Key)
		require.Equal(t, int64(len(want)), info.Size)
		require.NotEmpty(t, info.Revision)
		if info.SHA256 != "" {
			require.Equal(t, sum(want), info.SHA256)
		}
	}
	return stat
}

// requireNothing checks that nobody sees key.
func requireNothing(t testing.TB, s publish.Store, key string) {
	t.Helper()
	_, err := s.Stat(t.Context(), key)
	requireError(t, err, fs.ErrNotExist)
	body, _, err := s.Open(t.Context(), key)
	if err == nil {
		body.Close()
	}
	requireError(t, err, fs.ErrNotExist)
	require.NotContains(t, list(t, s, ""), key)
}

// requireError checks for a typed error with the cause.
func requireError(t testing.TB, err, want error) {
	t.Helper()
	require.ErrorIs(t, err, want)
	pe, ok := errors.AsType[*publish.Error](err)
	require.True(t, ok, "%T is no *publish.Error", err)
	require.NotEmpty(t, pe.Op)
}

func listInfos(t testing.TB, s publish.Store, prefix string) []publish.Info {
	t.Helper()
	var infos []publish.Info
	for info, err := range s.List(t.Context(), prefix) {
		require.NoError(t, err)
		infos = append(infos, info)
	}
	return infos
}

func list(t testing.TB, s publish.Store, prefix string) []string {
	t.Helper()
	keys := []string{}
	for _, info := range listInfos(t, s, prefix) {
		keys = append(keys, info.Key)
	}
	return keys
}

func storeMissingKey(t *testing.T, s publish.Store) {
	requireNothing(t, s, "missing")
	requireNothing(t, s, "missing/below")
	require.NoError(t, s.Delete(t.Context(), "missing"))
	require.NoError(t, s.Delete(t.Context(), "missing/below"))
	require.Empty(t, list(t, s, ""))
}

func storePutAndReadBack(t *testing.T, s publish.Store) {
	data := []byte("{\"builds\": []}\n")
	src := &source{data: data}
	info, err := s.Put(t.Context(), "prod/builds.json", src, &publish.PutOptions{
		SHA256: sum(data), ContentType: "application/json", CacheControl: "max-age=60",
	})
	require.NoError(t, err)
	require.Equal(t, "prod/builds.json", info.Key)
	require.Equal(t, int64(len(data)), info.Size)
	require.Equal(t, sum(data), info.SHA256)
	require.NotZero(t, src.opened.Load())
	require.Equal(t, src.opened.Load(), src.closed.Load(), "readers of the source that were opened and closed")

	stat := requireContent(t, s, "prod/builds.json", data)
	require.Equal(t, info.Revision, stat.Revision)
	require.Equal(t, sum(data), stat.SHA256)
	require.Equal(t, "application/json", stat.ContentType)

	// Without a promised digest the store computes it.
	info, err = s.Put(t.Context(), "plain", publish.BytesSource(data), nil)
	require.NoError(t, err)
	require.Equal(t, sum(data), info.SHA256)
	requireContent(t, s, "plain", data)
}

func storeEmptyObject(t *testing.T, s publish.Store) {
	info := mustPut(t, s, "empty", nil, &publish.PutOptions{SHA256: sum(nil)})
	require.Zero(t, info.Size)
	requireContent(t, s, "empty", nil)
	_, err := s.Put(t.Context(), "other", publish.BytesSource(nil), &publish.PutOptions{SHA256: sum([]byte("x"))})
	requireError(t, err, publish.ErrDigest)
	requireNothing(t, s, "other")
}

func storeLargeObject(t *testing.T, s publish.Store) {
	if testing.Short() {
		t.Skip("20 MiB")
	}
	data := content(1, 20<<20+1)
	mustPut(t, s, "large", data, &publish.PutOptions{SHA256: sum(data)})
	requireContent(t, s, "large", data)

	// Faults late in a transfer, where parts were sent already.
	_, err := s.Put(t.Context(), "digest", publish.BytesSource(data), &publish.PutOptions{SHA256: sum(nil)})
	requireError(t, err, publish.ErrDigest)
	requireNothing(t, s, "digest")
	cut := errors.New("disk on fire")
	_, err = s.Put(t.Context(), "cut", &source{data: data[:19<<20], size: 20 << 20, fail: cut}, &publish.PutOptions{SHA256: sum(data)})
	requireError(t, err, cut)
	requireNothing(t, s, "cut")
	_, err = s.Put(t.Context(), "large", &source{data: data[:19<<20], size: 20 << 20, fail: cut}, &publish.PutOptions{SHA256: sum(data)})
	requireError(t, err, cut)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = s.Put(ctx, "left", &source{data: data, cancel: cancel}, &publish.PutOptions{SHA256: sum(data)})
	requireError(t, err, context.Canceled)
	requireNothing(t, s, "left")
	// Conditions hold for large objects, too.
	_, err = s.Put(t.Context(), "large", publish.BytesSource(data), &publish.PutOptions{SHA256: sum(data), IfAbsent: true})
	if !errors.Is(err, errors.ErrUnsupported) {
		requireError(t, err, fs.ErrExist)
	}
	requireContent(t, s, "large", data)
	require.Equal(t, []string{"large"}, list(t, s, ""))
}

func storeReplace(t *testing.T, s publish.Store) {
	first := mustPut(t, s, "key", []byte("a long first version"), nil)
	second := mustPut(t, s, "key", []byte("short"), nil)
	require.NotEqual(t, first.Revision, second.Revision)
	requireContent(t, s, "key", []byte("short"))
	require.Equal(t, []string{"key"}, list(t, s, ""))
}

func storeDelete(t *testing.T, s publish.Store) {
	mustPut(t, s, "dir/one", []byte("1"), nil)
	mustPut(t, s, "dir/two", []byte("2"), nil)
	require.NoError(t, s.Delete(t.Context(), "dir/one"))
	requireNothing(t, s, "dir/one")
	requireContent(t, s, "dir/two", []byte("2"))
	require.NoError(t, s.Delete(t.Context(), "dir"), "a folder is no object")
	requireContent(t, s, "dir/two", []byte("2"))
	require.NoError(t, s.Delete(t.Context(), "dir/two"))
	require.Empty(t, list(t, s, ""))
	mustPut(t, s, "dir", []byte("3"), nil)
	requireContent(t, s, "dir", []byte("3"))
}

// badKeys are keys that every store refuses with [fs.ErrInvalid].
var badKeys = []string{
	"", "/", "/etc/passwd", "a/", "a//b", ".", "..", "../escape", "a/../../escape", "a/./b", "a/..",
	"nul\x00", "back\\slash", "line\nbreak", "\xff\xfe", strings.Repeat("k", publish.MaxKeySize+1),
}

func storeBadKeys(t *testing.T, s publish.Store) {
	for _, key := range badKeys {
		src := &source{data: []byte("escaped")}
		_, err := s.Put(t.Context(), key, src, nil)
		requireError(t, err, fs.ErrInvalid)
		require.Zero(t, src.opened.Load(), "%.40q: source was opened", key)
		_, err = s.Stat(t.Context(), key)
		requireError(t, err, fs.ErrInvalid)
		body, _, err := s.Open(t.Context(), key)
		if err == nil {
			body.Close()
		}
		requireError(t, err, fs.ErrInvalid)
		requireError(t, s.Delete(t.Context(), key), fs.ErrInvalid)
	}
	require.Empty(t, list(t, s, ""))
}

func storeBadOptions(t *testing.T, s publish.Store) {
	for name, opts := range map[string]*publish.PutOptions{
		"both conditions": {IfAbsent: true, IfRevision: "1"},
		"no digest":       {SHA256: "abc"},
		"upper case":      {SHA256: strings.ToUpper(sum([]byte("x")))},
	} {
		_, err := s.Put(t.Context(), "key", publish.BytesSource([]byte("x")), opts)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
	}
	_, err := s.Put(t.Context(), "key", nil, nil)
	require.ErrorIs(t, err, fs.ErrInvalid)
	requireNothing(t, s, "key")
}

func storeWeirdKeys(t *testing.T, s publish.Store) {
	// Each key is told from those that a careless encoding would make of it.
	keys := []string{
		"spaces in it/and more", "percent%2Fslash", "percent/slash", "per%cent", "%", "%41", "A",
		"plus+plus", "plus plus", "question?x=y", "hash#tag", "amp&amp", "quote'\"`", "<tag>", "semi;colon", "star*",
		"ünïcödé/日本語/🚀", "u\u0308", "\u00fc", ".hidden", "..dots", "trail.", "a..b", "~tilde", "-dash", "@at", "$var", "{brace}", "|", "CON",
		"deep/" + strings.Repeat("d/", 60) + "end",
	}
	long := []string{
		strings.Repeat("s", 255), "seg/" + strings.Repeat("s", 300), "utf/" + strings.Repeat("ü", 200),
		strings.Repeat("k", publish.MaxKeySize), strings.TrimSuffix(strings.Repeat(strings.Repeat("p", 63)+"/", 16), "/"),
	}
	stored := []string{}
	for i, key := range append(keys, long...) {
		_, err := s.Put(t.Context(), key, publish.BytesSource([]byte(strconv.Itoa(i)+key)), nil)
		if i >= len(keys) && errors.Is(err, errors.ErrUnsupported) {
			_, err = s.Stat(t.Context(), key)
			require.Error(t, err)
			continue
		}
		require.NoError(t, err, "%.80q", key)
		stored = append(stored, key)
	}
	all := append(keys, long...)
	for _, key := range stored {
		requireContent(t, s, key, []byte(strconv.Itoa(slices.Index(all, key))+key))
	}
	slices.Sort(stored)
	require.Equal(t, stored, list(t, s, ""))
	for i, key := range stored {
		require.NoError(t, s.Delete(t.Context(), key))
		_, err := s.Stat(t.Context(), key)
		requireError(t, err, fs.ErrNotExist)
		if i%8 == 0 {
			require.Equal(t, stored[i+1:], list(t, s, ""))
		}
	}
	require.Empty(t, list(t, s, ""))
}

func storeKeyBeginsAnother(t *testing.T, s publish.Store) {
	for _, keys := range [][]string{{"x", "x/y", "x/y/z"}, {"q/y/z", "q/y", "q"}, {"m", "m/n/o", "m/n"}} {
		stored := []string{}
		for _, key := range keys {
			_, err := s.Put(t.Context(), key, publish.BytesSource([]byte("at "+key)), nil)
			if len(stored) > 0 && errors.Is(err, errors.ErrUnsupported) {
				requireNothing(t, s, key)
				continue
			}
			require.NoError(t, err)
			stored = append(stored, key)
		}
		for _, key := range stored {
			requireContent(t, s, key, []byte("at "+key))
		}
		// Replaced where it is, not stored twice.
		mustPut(t, s, stored[len(stored)-1], []byte("new"), nil)
		requireContent(t, s, stored[len(stored)-1], []byte("new"))
		sorted := slices.Sorted(slices.Values(stored))
		require.Equal(t, sorted, list(t, s, keys[0][:1]))
		for len(stored) > 0 {
			require.NoError(t, s.Delete(t.Context(), stored[0]))
			requireNothing(t, s, stored[0])
			stored = stored[1:]
			for _, key := range stored {
				_, err := s.Stat(t.Context(), key)
				require.NoError(t, err, "%s went with another key", key)
			}
		}
		require.Empty(t, list(t, s, ""))
	}
}

func storeWrongDigest(t *testing.T, s publish.Store) {
	_, err := s.Put(t.Context(), "new", publish.BytesSource([]byte("bytes")), &publish.PutOptions{SHA256: sum([]byte("other"))})
	requireError(t, err, publish.ErrDigest)
	requireNothing(t, s, "new")
	before := mustPut(t, s, "old", []byte("kept"), nil)
	_, err = s.Put(t.Context(), "old", publish.BytesSource([]byte("bytes")), &publish.PutOptions{SHA256: sum([]byte("other"))})
	requireError(t, err, publish.ErrDigest)
	require.Equal(t, before.Revision, requireContent(t, s, "old", []byte("kept")).Revision)
}

func storeWrongSize(t *testing.T, s publish.Store) {
	data := []byte("ten bytes!")
	for _, size := range []int64{9, 11, 1 << 40} {
		_, err := s.Put(t.Context(), "new", &source{data: data, size: size}, &publish.PutOptions{SHA256: sum(data)})
		requireError(t, err, publish.ErrDigest)
		_, err = s.Put(t.Context(), "new", &source{data: data, size: size}, nil)
		requireError(t, err, publish.ErrDigest)
		requireNothing(t, s, "new")
	}
	_, err := s.Put(t.Context(), "new", &source{data: data, size: -1}, nil)
	require.Error(t, err)
	requireNothing(t, s, "new")
}

func storeSourceFails(t *testing.T, s publish.Store) {
	fault := errors.New("disk on fire")
	mustPut(t, s, "old", []byte("kept"), nil)
	for _, key := range []string{"new", "old"} {
		src := &source{data: content(2, 100<<10), size: 200 << 10, fail: fault}
		_, err := s.Put(t.Context(), key, src, nil)
		requireError(t, err, fault)
		require.Equal(t, src.opened.Load(), src.closed.Load())
		_, err = s.Put(t.Context(), key, src, &publish.PutOptions{SHA256: sum(content(2, 200<<10))})
		requireError(t, err, fault)
		_, err = s.Put(t.Context(), key, &source{open: fault, size: 5}, nil)
		requireError(t, err, fault)
	}
	// The fault comes with the last promised byte.
	_, err := s.Put(t.Context(), "new", &source{data: []byte("12345"), fail: fault}, &publish.PutOptions{SHA256: sum([]byte("12345"))})
	requireError(t, err, fault)
	requireNothing(t, s, "new")
	requireContent(t, s, "old", []byte("kept"))
}

func storeContextBefore(t *testing.T, s publish.Store) {
	mustPut(t, s, "old", []byte("kept"), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Put(ctx, "new", publish.BytesSource([]byte("x")), nil)
	requireError(t, err, context.Canceled)
	_, err = s.Put(ctx, "old", publish.BytesSource([]byte("x")), nil)
	requireError(t, err, context.Canceled)
	_, err = s.Stat(ctx, "old")
	requireError(t, err, context.Canceled)
	_, _, err = s.Open(ctx, "old")
	requireError(t, err, context.Canceled)
	requireError(t, s.Delete(ctx, "old"), context.Canceled)
	var last error
	for _, err := range s.List(ctx, "") {
		last = err
	}
	requireError(t, last, context.Canceled)
	requireNothing(t, s, "new")
	requireContent(t, s, "old", []byte("kept"))
}

func storeContextDuringPut(t *testing.T, s publish.Store) {
	mustPut(t, s, "old", []byte("kept"), nil)
	for _, key := range []string{"new", "old"} {
		for _, promised := range []bool{false, true} {
			ctx, cancel := context.WithCancel(t.Context())
			data := content(3, 200<<10)
			opts := &publish.PutOptions{}
			if promised {
				opts.SHA256 = sum(data)
			}
			_, err := s.Put(ctx, key, &source{data: data, cancel: cancel}, opts)
			requireError(t, err, context.Canceled)
			cancel()
		}
	}
	requireNothing(t, s, "new")
	requireContent(t, s, "old", []byte("kept"))
}

func storeContextDuringRead(t *testing.T, s publish.Store) {
	data := content(4, 4<<20)
	mustPut(t, s, "key", data, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, _, err := s.Open(ctx, "key")
	require.NoError(t, err)
	defer body.Close()
	_, err = io.ReadFull(body, make([]byte, 1000))
	require.NoError(t, err)
	cancel()
	n, err := io.Copy(io.Discard, body)
	require.ErrorIs(t, err, context.Canceled, "after %d more bytes", n)
}

// supported says whether a conditional Put was served; where it was not,
// nothing may have been written.
func supported(err error) bool { return !errors.Is(err, errors.ErrUnsupported) }

func storeStaleRevision(t *testing.T, s publish.Store) {
	first := mustPut(t, s, "key", []byte("first"), nil)
	second := mustPut(t, s, "key", []byte("second"), nil)
	_, err := s.Put(t.Context(), "key", publish.BytesSource([]byte("third")), &publish.PutOptions{IfRevision: first.Revision})
	if !supported(err) {
		requireContent(t, s, "key", []byte("second"))
		return
	}
	requireError(t, err, publish.ErrConflict)
	requireContent(t, s, "key", []byte("second"))
	_, err = s.Put(t.Context(), "key", publish.BytesSource([]byte("third")), &publish.PutOptions{IfRevision: "not a revision"})
	requireError(t, err, publish.ErrConflict)
	requireContent(t, s, "key", []byte("second"))
	third := mustPut(t, s, "key", []byte("third"), &publish.PutOptions{IfRevision: second.Revision})
	requireContent(t, s, "key", []byte("third"))
	require.NotEqual(t, second.Revision, third.Revision)
	_, err = s.Put(t.Context(), "key", publish.BytesSource([]byte("fourth")), &publish.PutOptions{IfRevision: second.Revision})
	requireError(t, err, publish.ErrConflict)
	requireContent(t, s, "key", []byte("third"))
}

func storeRevisionOfMissing(t *testing.T, s publish.Store) {
	info := mustPut(t, s, "key", []byte("first"), nil)
	require.NoError(t, s.Delete(t.Context(), "key"))
	_, err := s.Put(t.Context(), "key", publish.BytesSource([]byte("second")), &publish.PutOptions{IfRevision: info.Revision})
	if supported(err) {
		requireError(t, err, publish.ErrConflict)
	}
	requireNothing(t, s, "key")
}

func storeIfAbsent(t *testing.T, s publish.Store) {
	put := func(text string) error {
		_, err := s.Put(t.Context(), "key", publish.BytesSource([]byte(text)), &publish.PutOptions{IfAbsent: true})
		return err
	}
	err := put("first")
	if !supported(err) {
		requireNothing(t, s, "key")
		return
	}
	require.NoError(t, err)
	requireContent(t, s, "key", []byte("first"))
	requireError(t, put("second"), fs.ErrExist)
	requireError(t, put("first"), fs.ErrExist)
	requireContent(t, s, "key", []byte("first"))
	require.NoError(t, s.Delete(t.Context(), "key"))
	require.NoError(t, put("third"))
	requireContent(t, s, "key", []byte("third"))
	// Nothing of this kind stands in the way of what is not there.
	mustPut(t, s, "dir/below", []byte("x"), nil)
	_, err = s.Put(t.Context(), "dir/other", publish.BytesSource([]byte("y")), &publish.PutOptions{IfAbsent: true})
	require.NoError(t, err)
}

func storeRevisionsAgree(t *testing.T, s publish.Store) {
	put := mustPut(t, s, "key", []byte("content"), nil)
	stat, err := s.Stat(t.Context(), "key")
	require.NoError(t, err)
	_, opened, err := read(t.Context(), s, "key")
	require.NoError(t, err)
	require.Equal(t, put.Revision, stat.Revision)
	require.Equal(t, put.Revision, opened.Revision)
	require.Equal(t, put.Revision, listInfos(t, s, "key")[0].Revision)
	again, err := s.Stat(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, stat.Revision, again.Revision, "reading changes nothing")
	other := mustPut(t, s, "other", []byte("content"), nil)
	require.NotEmpty(t, other.Revision)
}

func storeList(t *testing.T, s publish.Store) {
	keys := []string{"a-b", "a.b", "a/b", "a/c/d", "a0", "ab/c", "b", "prefix", "prefix2/x", "ü/x"}
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(keys)) {
		mustPut(t, s, keys[i], []byte(keys[i]), nil)
	}
	for _, test := range []struct {
		prefix string
		want   []string
	}{
		{"", keys},
		{"a", keys[:6]},
		{"a/", []string{"a/b", "a/c/d"}},
		{"a/b", []string{"a/b"}},
		{"a/c", []string{"a/c/d"}},
		{"a/c/", []string{"a/c/d"}},
		{"prefi", []string{"prefix", "prefix2/x"}},
		{"prefix2/x", []string{"prefix2/x"}},
		{"prefix2/xy", []string{}},
		{"zz", []string{}},
		{"missing/", []string{}},
		{"\xc3\xbc", []string{"ü/x"}},
	} {
		require.Equal(t, test.want, list(t, s, test.prefix), "prefix %q", test.prefix)
	}
	for _, info := range listInfos(t, s, "") {
		require.Equal(t, int64(len(info.Key)), info.Size)
	}
}

func storeListMany(t *testing.T, s publish.Store) {
	var keys []string
	for i := range 1001 {
		keys = append(keys, fmt.Sprintf("many/%02d/%04d", i%7, i))
	}
	var wg sync.WaitGroup
	errs := make([]error, len(keys))
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < len(keys); i += 8 {
				_, errs[i] = s.Put(t.Context(), keys[i], publish.BytesSource(nil), nil)
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	slices.Sort(keys)
	require.Equal(t, keys, list(t, s, ""))
	require.Equal(t, keys, list(t, s, "many/"))
}

func storeListLeftEarly(t *testing.T, s publish.Store) {
	for i := range 10 {
		mustPut(t, s, fmt.Sprintf("dir%d/key", i), nil, nil)
	}
	seq := s.List(t.Context(), "")
	for range 2 { // a sequence can be used again
		n := 0
		for _, err := range seq {
			require.NoError(t, err)
			if n++; n == 3 {
				break
			}
		}
		require.Equal(t, 3, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var after int
	var last error
	for _, err := range s.List(ctx, "") {
		cancel()
		if last = err; err == nil {
			after++
		}
	}
	if after < 10 { // what was read already may still come
		requireError(t, last, context.Canceled)
	}
}

func storeReaderLeftEarly(t *testing.T, s publish.Store) {
	data := content(5, 4<<20)
	mustPut(t, s, "key", data, nil)
	for range 3 {
		body, _, err := s.Open(t.Context(), "key")
		require.NoError(t, err)
		_, err = io.ReadFull(body, make([]byte, 10))
		require.NoError(t, err)
		require.NoError(t, body.Close())
	}
	body, _, err := s.Open(t.Context(), "key")
	require.NoError(t, err)
	require.NoError(t, body.Close())
	requireContent(t, s, "key", data)
}

func storeReaderAcrossReplacement(t *testing.T, s publish.Store) {
	old := content(6, 6<<20)
	mustPut(t, s, "key", old, nil)
	body, info, err := s.Open(t.Context(), "key")
	require.NoError(t, err)
	defer body.Close()
	head := make([]byte, 10)
	_, err = io.ReadFull(body, head)
	require.NoError(t, err)
	mustPut(t, s, "key", content(7, 6<<20), nil)
	require.NoError(t, s.Delete(t.Context(), "key"))
	rest, err := io.ReadAll(body)
	if err != nil {
		return // an error is honest; other bytes are not
	}
	require.True(t, bytes.Equal(old, append(head, rest...)), "a reader of %d bytes saw two versions", info.Size)
}

func storeConcurrentUpdate(t *testing.T, s publish.Store) {
	const writers, rounds = 4, 5
	var unsupported atomic.Bool
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for range rounds {
				_, err := publish.Update(t.Context(), s, "counter", func(old []byte) ([]byte, error) {
					n := 0
					if old != nil {
						var err error
						if n, err = strconv.Atoi(string(old)); err != nil {
							return nil, err
						}
					}
					return strconv.AppendInt(nil, int64(n+1), 10), nil
				}, &publish.UpdateOptions{Attempts: 200, Delay: 1, Jitter: rand.Float64})
				if errors.Is(err, errors.ErrUnsupported) {
					unsupported.Store(true)
					return
				}
				if err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	if unsupported.Load() {
		requireNothing(t, s, "counter")
		return
	}
	requireContent(t, s, "counter", []byte(strconv.Itoa(writers*rounds)))
}

func storeConcurrentIfAbsent(t *testing.T, s publish.Store) {
	const writers = 8
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			_, errs[w] = s.Put(t.Context(), "lock", publish.BytesSource([]byte(strconv.Itoa(w))), &publish.PutOptions{IfAbsent: true})
		})
	}
	wg.Wait()
	winner := -1
	for w, err := range errs {
		switch {
		case err == nil:
			require.Equal(t, -1, winner, "two writers were told that they made the object")
			winner = w
		case !supported(err):
			return
		default:
			requireError(t, err, fs.ErrExist)
		}
	}
	require.NotEqual(t, -1, winner)
	requireContent(t, s, "lock", []byte(strconv.Itoa(winner)))
}

func storeConcurrentPutAndRead(t *testing.T, s publish.Store) {
	versions := map[string]bool{}
	var all [][]byte
	for i := range 4 {
		data := content(uint64(10+i), 100<<10+i)
		all = append(all, data)
		versions[sum(data)] = true
	}
	mustPut(t, s, "dir/key", all[0], nil)
	done := make(chan struct{})
	var writers, readers sync.WaitGroup
	errs := make([]error, 4)
	for w := range 2 {
		writers.Go(func() {
			for i := range 10 {
				data := all[(w+i)%len(all)]
				if _, err := s.Put(t.Context(), "dir/key", publish.BytesSource(data), &publish.PutOptions{SHA256: sum(data)}); err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	for r := range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				data, info, err := read(t.Context(), s, "dir/key")
				switch {
				case err != nil:
					errs[2+r] = err
					return
				case !versions[sum(data)]:
					errs[2+r] = fmt.Errorf("a reader saw %d bytes that nobody put", len(data))
					return
				case info.Size != int64(len(data)) || info.SHA256 != "" && info.SHA256 != sum(data):
					errs[2+r] = fmt.Errorf("a reader was told about another object than it read")
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	require.NoError(t, errors.Join(errs...))
}

func storeProgress(t *testing.T, s publish.Store) {
	data := content(20, 300<<10)
	var last, total int64
	mustPut(t, s, "key", data, &publish.PutOptions{Progress: func(done, of int64) { last, total = max(last, done), of }})
	require.EqualValues(t, len(data), last)
	require.EqualValues(t, len(data), total)
}
