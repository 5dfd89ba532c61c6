package container_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/ostree/container"
)

const (
	childRepo  = "CONTAINER_TEST_REPO"
	childCache = "CONTAINER_TEST_CACHE"
)

// TestChild is what TestKilled starts and kills: one encapsulation.
func TestChild(t *testing.T) {
	dir := os.Getenv(childRepo)
	if dir == "" {
		t.Skip("is started by TestKilled")
	}
	repo := openRepo(t, dir)
	c, err := repo.Resolve(t.Context(), "sample")
	require.NoError(t, err)
	encapsulate(t, openCache(t, os.Getenv(childCache)), repo, c, &container.EncapsulateOptions{Components: split(t, repo, c)})
}

// A process that is killed at any moment leaves nothing that a later run would
// serve wrongly, or that stays.
func TestKilled(t *testing.T) {
	repo := newRepo(t)
	files := big(3 << 20)
	for path, text := range sample {
		files[path] = text
	}
	c := commit(t, repo, files)
	require.NoError(t, repo.SetRef(t.Context(), "sample", c))
	opts := &container.EncapsulateOptions{Components: split(t, repo, c)}
	want := digest(t, encapsulate(t, openCache(t, t.TempDir()), repo, c, opts))

	dir := t.TempDir()
	program, err := os.Executable()
	require.NoError(t, err)
	for round := range 6 {
		cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestChild$")
		cmd.Env = append(os.Environ(), childRepo+"="+repo.Path(), childCache+"="+dir)
		require.NoError(t, cmd.Start())
		time.Sleep(time.Duration(round*round) * 10 * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if round%3 == 2 { // a blob that was cut without its time changing
			for _, blob := range filesIn(t, dir)[len(filesNamed(t, dir, "layers")):] {
				require.NoError(t, os.Truncate(blob, 50))
			}
		}
	}
	img := encapsulate(t, openCache(t, dir), repo, c, opts)
	require.Equal(t, want, digest(t, img))
	requireValid(t, img)
	require.Empty(t, filesNamed(t, dir, "tmp"))
}

func filesNamed(t testing.TB, dir, sub string) []string { return files(t, filepath.Join(dir, sub)) }

// Several values of one cache, as several processes have, at work on the same
// layers.
func TestCacheIsShared(t *testing.T) {
	repo := newRepo(t)
	c := commit(t, repo, sample)
	opts := &container.EncapsulateOptions{Components: split(t, repo, c)}
	dir := t.TempDir()
	images := make([]v1.Image, 6)
	errs := make([]error, len(images))
	var wg sync.WaitGroup
	for i := range images {
		cache := openCache(t, dir)
		wg.Go(func() {
			images[i], errs[i] = container.Encapsulate(t.Context(), cache, repo, c, opts)
			if i%2 == 1 && errs[i] == nil {
				_, errs[i] = cache.Prune(t.Context(), 0)
			}
		})
	}
	wg.Wait()
	for i, img := range images {
		require.NoError(t, errs[i])
		require.Equal(t, digest(t, images[0]), digest(t, img))
		requireValid(t, img)
	}
}
