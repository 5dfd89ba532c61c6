package remoteregistry_test

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/publishtest"
	"github.com/okd-project/okd-streams/publish/remoteregistry"
)

func TestConformanceDockerRegistry(t *testing.T) {
	host := interop.Registry(t)
	n := make(chan int, 1)
	n <- 0
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		i := <-n
		n <- i + 1
		return open(t, &remoteregistry.Options{PageSize: 50}), repository(t, host, "okd/release"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	})
}

func TestConformanceDockerRegistryChunked(t *testing.T) {
	host := interop.Registry(t)
	n := make(chan int, 1)
	n <- 0
	publishtest.TestRegistry(t, func(t *testing.T) (publish.Registry, name.Repository) {
		i := <-n
		n <- i + 1
		return open(t, &remoteregistry.Options{PageSize: 7, ChunkSize: 8<<20 + 1, Concurrency: 1}), repository(t, host, "okd/release"+string(rune('a'+i/26))+string(rune('a'+i%26)))
	})
}
