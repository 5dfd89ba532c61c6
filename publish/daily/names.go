package daily

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/stream"
)

// namesFolder is beside a stream's builds: who took which name.
const namesFolder = "names"

// maxTaken bounds the names that are tried for one build.
const maxTaken = 1000

// Claim is what stands in the store under a name that a build took, beside the
// folder of builds: names/build-BUILD.json and names/release-VERSION.json. The
// same build writes the same bytes, also on another machine that goes on with it.
type Claim struct {
	Build   string      `json:"build"`
	Version string      `json:"version"` // of the release
	Arch    stream.Arch `json:"arch"`
	Input   string      `json:"input"` // SHA-256 of what is pinned, lower-case hexadecimal
	Time    time.Time   `json:"time"`  // of the build
}

// ClaimOf reads what the builder of a build took, and so which release it was
// made for. Builds that others made have none: the error wraps
// [io/fs.ErrNotExist].
func ClaimOf(ctx context.Context, store publish.Store, bucket bootimage.Bucket, build string) (*Claim, error) {
	builds, err := bucket.Key(bootimage.BucketFile{Kind: bootimage.FileBuilds})
	if err != nil {
		return nil, fmt.Errorf("daily: claim of build %.140q: %w", build, err)
	}
	key := path.Join(path.Dir(path.Dir(builds)), namesFolder, "build-"+build+".json")
	if build == "" || strings.Contains(build, "/") {
		return nil, fmt.Errorf("daily: claim of build %.140q: %w", build, fs.ErrInvalid)
	}
	data, _, err := publish.ReadDocument(ctx, store, key)
	if err != nil {
		return nil, fmt.Errorf("daily: claim of build %s: %w", build, err)
	}
	var c Claim
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("daily: claim of build %s: %.300w", build, err) // it may quote all of the document
	}
	if c.Build != build {
		return nil, fmt.Errorf("daily: claim of build %s: it is of %.140q: %w", build, c.Build, fs.ErrInvalid)
	}
	return &c, nil
}

// errTaken says that another build has a name.
var errTaken = errors.New("name is taken")

// take puts a claim under the build's name and the release's, so that of two
// builders that begin at once each gets names of its own: neither the catalogue
// nor the registry knows them before the end.
func (b *build) take(ctx context.Context, in *Inputs) error {
	dir, err := b.buildsKey()
	if err != nil {
		return err
	}
	data, err := json.Marshal(Claim{Build: in.Build, Version: in.Version, Arch: in.Arch, Input: in.Digest, Time: in.Time})
	if err != nil {
		return err
	}
	for _, name := range []string{"release-" + in.Version, "build-" + in.Build} {
		key := path.Join(path.Dir(dir), namesFolder, name+".json")
		_, err := b.env.Store.Put(ctx, key, publish.BytesSource(data), &publish.PutOptions{IfAbsent: true, ContentType: "application/json"})
		if errors.Is(err, errors.ErrUnsupported) {
			return nil // a store for one writer alone
		}
		if errors.Is(err, fs.ErrExist) || errors.Is(err, publish.ErrConflict) {
			var ours bool
			if ours, err = b.holds(ctx, key, data); err == nil && !ours {
				err = fmt.Errorf("%s: %w", name, errTaken)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether an object is the claim.
func (b *build) holds(ctx context.Context, key string, data []byte) (bool, error) {
	r, _, err := b.env.Store.Open(ctx, key)
	if err != nil {
		return false, err
	}
	there, err := io.ReadAll(io.LimitReader(r, int64(len(data))+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return false, err
	}
	return bytes.Equal(there, data), nil
}
