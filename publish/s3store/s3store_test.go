package s3store_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/publishtest"
	"github.com/okd-project/okd-streams/publish/s3store"
)

// open is a store in a part of its own of the server's bucket.
func open(t *testing.T, server interop.S3Server, prefix string, opts *s3store.Options) *s3store.Store {
	t.Helper()
	o := s3store.Options{AccessKey: server.AccessKey, SecretKey: server.SecretKey, Delay: time.Millisecond}
	if opts != nil {
		o = *opts
	}
	s, err := s3store.Open(t.Context(), s3store.Config{
		Bucket: server.Bucket, Prefix: prefix, Endpoint: server.Endpoint, Region: server.Region, PathStyle: true,
	}, &o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformanceOfVersitygw(t *testing.T) {
	server := interop.S3(t)
	var n atomic.Int32
	publishtest.TestStore(t, func(t *testing.T) publish.Store {
		return open(t, server, fmt.Sprintf("case%02d", n.Add(1)), nil)
	})
}
