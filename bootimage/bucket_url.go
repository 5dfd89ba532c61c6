package bootimage

import (
	"net/url"
	"path"
	"strings"
)

// URLs are the addresses of a file, one a base, in their order.
func (b Bucket) URLs(f BucketFile) ([]string, error) {
	key, err := b.Key(f)
	if err != nil {
		return nil, err
	}
	urls := make([]string, len(b.Bases))
	for i, base := range b.Bases {
		if urls[i], err = address(base, key); err != nil {
			return nil, err
		}
	}
	return urls, nil
}

// URL is the first address of a file: the one that documents name.
func (b Bucket) URL(f BucketFile) (string, error) {
	urls, err := b.URLs(f)
	if err != nil {
		return "", err
	}
	if len(urls) == 0 {
		return "", layoutError("no base address")
	}
	return urls[0], nil
}

// BuildsURL is the first address of the folder of builds, as
// [ReleaseOptions.BaseURL] takes it.
func (b Bucket) BuildsURL() (string, error) {
	file, err := b.URL(BucketFile{Kind: FileBuilds})
	return strings.TrimSuffix(file, "/"+BuildsFile), err
}

// address joins a base and a key.
func address(base, key string) (string, error) {
	if err := checkBase(base); err != nil {
		return "", err
	}
	return base + (&url.URL{Path: "/" + key}).EscapedPath(), nil
}

func checkBase(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Scheme == "" || u.Opaque != "" || u.Host == "" && u.Scheme != "file" || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || strings.Contains(base, "#") || strings.HasSuffix(base, "/") {
		// Not shown: it may hold a password.
		return layoutError("base is not an address without user, query and slash at its end")
	}
	return nil
}

// ParseURL tells which file an address is of, and which of the bases it is
// below. Query and fragment do not count: installers put checksums there. The
// error wraps [io/fs.ErrInvalid].
func (b Bucket) ParseURL(text string) (f BucketFile, base string, err error) {
	if err := b.check(); err != nil {
		return f, "", err
	}
	text, _, _ = strings.Cut(text, "#")
	text, _, _ = strings.Cut(text, "?")
	for _, candidate := range b.Bases {
		rest, ok := strings.CutPrefix(text, candidate+"/")
		if !ok || len(candidate) < len(base) {
			continue
		}
		key, err := url.PathUnescape(rest)
		if err != nil {
			continue
		}
		if found, err := b.Parse(key); err == nil {
			f, base = found, candidate
		}
	}
	if base == "" {
		return BucketFile{}, "", layoutError("address is not of a file below the bases")
	}
	return f, base, nil
}

// BucketOf finds the layout that an address fits: the bucket with the base that
// the address is below, and the file. It is for addresses that others published,
// where nothing else is known; what the address does not tell is taken to be as
// with [StreamBucket], else the stream to be named as the folder. Flat layouts
// are told from others by the build's id, which begins with a digit. Query and
// fragment do not count. The error wraps [io/fs.ErrInvalid].
func BucketOf(address string) (Bucket, BucketFile, error) {
	fail := func() (Bucket, BucketFile, error) {
		return Bucket{}, BucketFile{}, layoutError("address does not have the layout of a stream")
	}
	address, _, _ = strings.Cut(address, "#")
	address, _, _ = strings.Cut(address, "?")
	u, err := url.Parse(address)
	if err != nil || u.Host == "" && u.Scheme != "file" || u.User != nil {
		return fail()
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			return fail()
		}
	}
	for _, split := range splits(parts) {
		b := split.bucket
		key := strings.Join(parts[split.base:], "/")
		base := *u
		base.Path, base.RawPath = "/"+strings.Join(parts[:split.base], "/"), ""
		b.Bases = []string{strings.TrimSuffix(base.String(), "/")}
		f, err := b.Parse(key)
		if err != nil {
			continue
		}
		// Flat folders look like many others.
		if b.Flat && (f.Kind == FileBuilds || f.Kind == FileIndex || f.Build != "" && (f.Build[0] < '0' || f.Build[0] > '9')) {
			continue
		}
		if made, err := b.URL(f); err != nil || made != address {
			continue
		}
		return b, f, nil
	}
	return fail()
}

// split is one way to read the path of an address: what comes before the key,
// and the bucket that the key is of.
type split struct {
	base   int // number of segments
	bucket Bucket
}

// splits are the ways to read a path, the likelier first.
func splits(parts []string) (all []split) {
	n := len(parts)
	// below reads parts[:at] as the end of a base and the folder of a stream.
	below := func(at int, flat bool) {
		b := Bucket{Flat: flat}
		switch {
		case at >= 3 && path.Join(parts[at-3], parts[at-2]) == "prod/streams":
			b = StreamBucket(parts[at-1])
			b.Flat = flat
			all = append(all, split{at - 3, b})
		case at >= 1:
			b.Stream, b.Prefix = parts[at-1], parts[at-1]
			all = append(all, split{at - 1, b})
		case !flat:
			all = append(all, split{0, b})
		}
	}
	name, isJSON := strings.CutSuffix(parts[n-1], ".json")
	for at := n - 2; at >= 0 && at >= n-4; at-- {
		if parts[at] == "builds" {
			below(at, false)
		}
	}
	if isJSON && n >= 2 {
		for _, s := range streamFolders {
			if parts[n-2] == s.folder {
				all = append(all, split{n - 2, StreamBucket(name)})
			}
		}
	}
	if parts[n-1] == IndexFile {
		below(n-1, false)
	}
	for at := n - 1; at >= 0; at-- {
		if strings.HasPrefix(strings.Join(parts[at:], "/"), ociSignatures+"/") {
			all = append(all, split{at, Bucket{}})
		}
	}
	for _, at := range []int{n - 3, n - 2} {
		if at >= 1 {
			below(at, true)
		}
	}
	return all
}
