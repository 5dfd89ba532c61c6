package dirstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/dirstore"
)

func put(t *testing.T, s *dirstore.Store, key, content string, opts *publish.PutOptions) publish.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, publish.BytesSource([]byte(content)), opts)
	require.NoError(t, err)
	return info
}

// requireNoTemporaries looks into the store's own folder.
func requireNoTemporaries(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, ".okd-streams", "tmp"))
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	require.Empty(t, entries)
}

func TestPlainKeysLieAtPlainPaths(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "new", "store")
	s := open(t, dir, nil)
	for _, key := range []string{"builds.json", "prod/streams/next/builds/1/x86_64/meta.json", "a b/ü%20.json"} {
		put(t, s, key, key, nil)
		data, err := os.ReadFile(filepath.Join(dir, key))
		require.NoError(t, err)
		require.Equal(t, key, string(data))
		info, err := os.Stat(filepath.Join(dir, key))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o644), info.Mode())
	}
	info, err := os.Stat(filepath.Join(dir, "prod", "streams"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode().Perm())
	requireNoTemporaries(t, dir)
	// Folders go with their last object; what others put there stays.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prod", "theirs.txt"), []byte("x"), 0o644))
	require.NoError(t, s.Delete(t.Context(), "prod/streams/next/builds/1/x86_64/meta.json"))
	require.NoDirExists(t, filepath.Join(dir, "prod", "streams"))
	require.FileExists(t, filepath.Join(dir, "prod", "theirs.txt"))
}

func TestOwnFolderIsNoKeySpace(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	put(t, s, ".okd-streams/lock", "an object", nil)
	put(t, s, ".okd-streams/tmp/1-1", "another", nil)
	requireNoTemporaries(t, dir)
	again := open(t, dir, nil)
	for key, want := range map[string]string{".okd-streams/lock": "an object", ".okd-streams/tmp/1-1": "another"} {
		data, _, err := publish.ReadDocument(t.Context(), again, key)
		require.NoError(t, err)
		require.Equal(t, want, string(data))
	}
}

func TestSymbolicLinksAreNotFollowed(t *testing.T) {
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	dir := t.TempDir()
	s := open(t, dir, nil)
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "folder")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "file")))
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "loop")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644))
	put(t, s, "real", "x", nil)
	for _, key := range []string{"folder/secret", "file", "loop/real", "fifo"} {
		_, err := s.Stat(t.Context(), key)
		require.ErrorIs(t, err, fs.ErrNotExist, key)
		_, _, err = s.Open(t.Context(), key)
		require.ErrorIs(t, err, fs.ErrNotExist, key)
		require.NoError(t, s.Delete(t.Context(), key))
	}
	// Writing goes elsewhere, never through a link.
	for _, key := range []string{"folder/secret", "file"} {
		put(t, s, key, "mine", nil)
		data, _, err := publish.ReadDocument(t.Context(), s, key)
		require.NoError(t, err)
		require.Equal(t, "mine", string(data))
	}
	data, err := os.ReadFile(filepath.Join(outside, "secret"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(data))
	var keys []string
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	require.Equal(t, []string{"file", "folder/secret", "real"}, keys)
	// Nor is the store's own folder.
	evil := t.TempDir()
	require.NoError(t, os.Symlink(outside, filepath.Join(evil, ".okd-streams")))
	e, err := dirstore.Open(t.Context(), evil, nil)
	if err == nil {
		_, err = e.Put(t.Context(), "key", publish.BytesSource(nil), nil)
		require.NoError(t, e.Close())
	}
	require.Error(t, err)
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestChangesByOthersAreNoticed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	info := put(t, s, "doc", "version 1", nil)
	path := filepath.Join(dir, "doc")
	stat, err := os.Stat(path)
	require.NoError(t, err)

	// In place, with the same length, and then with the old time put back.
	for _, content := range []string{"version 2", "version 3"} {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = file.WriteString(content)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		now, err := s.Stat(t.Context(), "doc")
		require.NoError(t, err)
		require.NotEqual(t, info.Revision, now.Revision)
		require.Empty(t, now.SHA256, "what is not known is not said")
		_, err = s.Put(t.Context(), "doc", publish.BytesSource([]byte("mine")), &publish.PutOptions{IfRevision: info.Revision})
		require.ErrorIs(t, err, publish.ErrConflict)
		info = now
		require.NoError(t, os.Chtimes(path, time.Time{}, stat.ModTime().Add(time.Hour)))
		later, err := s.Stat(t.Context(), "doc")
		require.NoError(t, err)
		require.NotEqual(t, info.Revision, later.Revision)
		info = later
	}
	written, err := s.Put(t.Context(), "doc", publish.BytesSource([]byte("mine")), &publish.PutOptions{IfRevision: info.Revision})
	require.NoError(t, err)
	require.NotEmpty(t, written.SHA256)

	// A file that was never ours is an object, too.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "theirs"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "theirs", "file"), []byte("x"), 0o600))
	data, found, err := publish.ReadDocument(t.Context(), s, "theirs/file")
	require.NoError(t, err)
	require.Equal(t, "x", string(data))
	require.Empty(t, found.SHA256)
}

func TestLink(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "layer")
	require.NoError(t, os.WriteFile(path, []byte("layer"), 0o644))
	src, err := publish.FileSource(path)
	require.NoError(t, err)
	dir := filepath.Join(base, "store")
	s := open(t, dir, nil)
	for range 2 { // again: both names are one file already
		info, err := s.Put(t.Context(), "blobs/layer", src, &publish.PutOptions{Link: true})
		require.NoError(t, err)
		require.NotEmpty(t, info.SHA256)
		requireNoTemporaries(t, dir)
	}
	same := func(key string) bool {
		a, err := os.Stat(path)
		require.NoError(t, err)
		b, err := os.Stat(filepath.Join(dir, key))
		require.NoError(t, err)
		return os.SameFile(a, b)
	}
	require.True(t, same("blobs/layer"))
	_, err = s.Put(t.Context(), "copy", src, nil)
	require.NoError(t, err)
	require.False(t, same("copy"), "only who says so shares the file")
	_, err = s.Put(t.Context(), "wrong", src, &publish.PutOptions{Link: true, SHA256: strings.Repeat("0", 64)})
	require.ErrorIs(t, err, publish.ErrDigest)
	_, err = s.Put(t.Context(), "blobs/layer", src, &publish.PutOptions{Link: true, IfAbsent: true})
	require.ErrorIs(t, err, fs.ErrExist)
	// What nobody else could read is copied.
	require.NoError(t, os.Chmod(path, 0o600))
	_, err = s.Put(t.Context(), "private", src, &publish.PutOptions{Link: true})
	require.NoError(t, err)
	require.False(t, same("private"))
	requireNoTemporaries(t, dir)
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key"), []byte("x"), 0o644))
	s := open(t, dir, &dirstore.Options{ReadOnly: true})
	_, err := s.Stat(t.Context(), "key")
	require.NoError(t, err)
	_, err = s.Put(t.Context(), "other", publish.BytesSource(nil), nil)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorIs(t, s.Delete(t.Context(), "key"), fs.ErrPermission)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing of ours is left there")
	_, err = dirstore.Open(t.Context(), filepath.Join(dir, "missing"), &dirstore.Options{ReadOnly: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = dirstore.Open(t.Context(), filepath.Join(dir, "key"), nil)
	require.Error(t, err)
}

// endless never ends.
type endless struct{}

func (endless) Open(context.Context) (io.ReadCloser, error) { return endlessReader{}, nil }
func (endless) Size() int64                                 { return 1 << 40 }

type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }
func (endlessReader) Close() error               { return nil }

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("needs to mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	s, err := dirstore.Open(t.Context(), dir, nil)
	require.NoError(t, err)
	defer s.Close()
	put(t, s, "kept", "before", nil)
	for _, key := range []string{"kept", "new"} {
		_, err = s.Put(t.Context(), key, endless{}, nil)
		require.ErrorIs(t, err, unix.ENOSPC)
		require.EqualError(t, err, "publish: put "+key+": no space left on device")
	}
	requireNoTemporaries(t, dir)
	data, _, err := publish.ReadDocument(t.Context(), s, "kept")
	require.NoError(t, err)
	require.Equal(t, "before", string(data))
	put(t, s, "new", "there is room again", nil)
}

// TestKilled puts versions of two objects in a child, kills it at a random
// moment, and looks at what is there.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("DIRSTORE_CHILD"); dir != "" {
		s, err := dirstore.Open(t.Context(), dir, nil)
		require.NoError(t, err)
		for i := 0; ; i++ {
			key := "dir" + strconv.Itoa(i%3) + "/key"
			_, err := s.Put(t.Context(), key, publish.BytesSource(version(i)), nil)
			require.NoError(t, err)
			if i%7 == 0 {
				require.NoError(t, s.Delete(t.Context(), key))
			}
			fmt.Println("put")
		}
	}
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 1))
	for range 12 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), "DIRSTORE_CHILD="+dir)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		_, err = io.ReadFull(out, make([]byte, 4*(1+random.IntN(5))))
		require.NoError(t, err)
		time.Sleep(time.Duration(random.IntN(20_000)) * time.Microsecond)
		require.NoError(t, child.Process.Kill())
		require.Error(t, child.Wait())

		s := open(t, dir, nil) // cleans up
		requireNoTemporaries(t, dir)
		for info, err := range s.List(t.Context(), "dir") {
			require.NoError(t, err)
			data, _, err := publish.ReadDocument(t.Context(), s, info.Key)
			require.NoError(t, err)
			require.NotEmpty(t, data)
			require.True(t, bytes.Equal(version(int(data[0])), data), "%s holds a mixture", info.Key)
		}
		put(t, s, "after", "the lock is free", nil)
	}
}

// version is content of 256 KiB or so, all of one byte.
func version(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 256<<10+i%256) }

// TestOpenSparesWritersAtWork opens the store again and again while it is
// written.
func TestOpenSparesWritersAtWork(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, &dirstore.Options{NoSync: true})
	done := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		defer close(done)
		for i := range 200 {
			if _, err := s.Put(t.Context(), "key", publish.BytesSource(version(i)), nil); err != nil {
				failed <- err
				return
			}
		}
	}()
	for {
		select {
		case <-done:
			require.Empty(t, failed)
			return
		default:
		}
		other, err := dirstore.Open(t.Context(), dir, nil)
		require.NoError(t, err)
		require.NoError(t, other.Close())
	}
}

// TestProcessesUpdateOneDocument counts in several processes at once.
func TestProcessesUpdateOneDocument(t *testing.T) {
	const processes, rounds = 3, 20
	count := func(dir string) error {
		s, err := dirstore.Open(t.Context(), dir, &dirstore.Options{NoSync: true})
		if err != nil {
			return err
		}
		defer s.Close()
		for range rounds {
			_, err := publish.Update(t.Context(), s, "counter", func(old []byte) ([]byte, error) {
				n, _ := strconv.Atoi(string(old))
				return strconv.AppendInt(nil, int64(n+1), 10), nil
			}, &publish.UpdateOptions{Attempts: 1000, Delay: 1, Jitter: rand.Float64})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if dir := os.Getenv("DIRSTORE_COUNT"); dir != "" {
		require.NoError(t, count(dir))
		return
	}
	dir := t.TempDir()
	var children []*exec.Cmd
	for range processes {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessesUpdateOneDocument$")
		child.Env = append(os.Environ(), "DIRSTORE_COUNT="+dir)
		require.NoError(t, child.Start())
		children = append(children, child)
	}
	for _, child := range children {
		require.NoError(t, child.Wait())
	}
	data, _, err := publish.ReadDocument(t.Context(), open(t, dir, nil), "counter")
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(processes*rounds), string(data))
}

func TestLockObeysContext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	put(t, s, "key", "x", nil)
	file, err := os.OpenFile(filepath.Join(dir, ".okd-streams", "lock"), os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, unix.Flock(int(file.Fd()), unix.LOCK_EX))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Put(ctx, "key", publish.BytesSource([]byte("y")), nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	requireNoTemporaries(t, dir)
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := dirstore.Open(ctx, dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	info, err := s.Put(ctx, "streams/next.json", publish.BytesSource([]byte("{}")), &publish.PutOptions{IfAbsent: true})
	fmt.Println(info.Key, info.Size, err)
	data, err := os.ReadFile(filepath.Join(dir, "streams", "next.json"))
	fmt.Println(string(data), err)
	for info, err := range s.List(ctx, "streams/") {
		fmt.Println(info.Key, err)
	}
	fmt.Println(s.Delete(ctx, "streams/next.json"))
	_, err = s.Stat(ctx, "streams/next.json")
	fmt.Println(err)
	// Output:
	// streams/next.json 2 <nil>
	// {} <nil>
	// streams/next.json <nil>
	// <nil>
	// publish: stat streams/next.json: file does not exist
}

func BenchmarkPut(b *testing.B) {
	s, err := dirstore.Open(b.Context(), b.TempDir(), &dirstore.Options{NoSync: true})
	require.NoError(b, err)
	defer s.Close()
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := s.Put(b.Context(), "key", publish.BytesSource(data), nil); err != nil {
			b.Fatal(err)
		}
	}
}
