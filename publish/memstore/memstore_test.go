package memstore_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/publish/publishtest"
)

func TestConformance(t *testing.T) {
	publishtest.TestStore(t, func(*testing.T) publish.Store { return memstore.New() })
}

func Example() {
	ctx := context.Background()
	s := memstore.New()
	if _, err := s.Put(ctx, "streams/next.json", publish.BytesSource([]byte("{}")), nil); err != nil {
		fmt.Println(err)
	}
	for info, err := range s.List(ctx, "streams/") {
		fmt.Println(info.Key, info.Size, err)
	}
	// Output: streams/next.json 2 <nil>
}
