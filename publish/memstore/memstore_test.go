package memstore_test

import (
	"context"
	"fmt"
	"io"
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
	put, err := s.Put(ctx, "streams/next.json", publish.BytesSource([]byte("{}")), nil)
	fmt.Println(put.Size, err)
	body, info, err := s.Open(ctx, "streams/next.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Println(string(data), info.Revision == put.Revision, err)
	for info, err := range s.List(ctx, "streams/") {
		fmt.Println(info.Key, err)
	}
	fmt.Println(s.Delete(ctx, "streams/next.json"))
	_, err = s.Stat(ctx, "streams/next.json")
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// {} true <nil>
	// streams/next.json <nil>
	// <nil>
	// publish: stat streams/next.json: file does not exist
}
