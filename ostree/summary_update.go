package ostree

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// SummaryOptions configures [Repo.UpdateSummary]. Nil is the zero value.
type SummaryOptions struct {
	// Metadata is added to the repository's. The keys that [Repo.UpdateSummary]
	// sets itself are its own.
	Metadata []MetadataItem
	// LastModified is the time that the summary gives for itself, to the second:
	// now, that is. Zero: none is given.
	LastModified time.Time
	// Sign are signers of the summary. None: the summary is not signed, and
	// what signed the one before is removed.
	Sign []SummarySigner
}

// SummarySigner makes one signature of a summary.
type SummarySigner struct {
	Kind   SignatureKind
	Signer Signer
}

// UpdateSummary writes the repository's summary, of its refs and static deltas,
// and summary.sig, as `ostree summary -u` does: refs of remotes are left out,
// aliases are in. The same refs and options always give the same bytes: keys are
// sorted. It also lists the static deltas in delta-indexes/ and says so in the
// config (core.indexed-deltas), unless core.no-deltas-in-summary keeps them out
// of the summary.
//
// A repository with refs of collections, or a collection of its own
// (core.collection-id), is refused with an error that wraps
// [errors.ErrUnsupported]; a ref whose commit is not there is an error. Who reads
// between the moment a new summary is there and that in which its signature is
// sees one that does not match, as with `ostree`.
func (r *Repo) UpdateSummary(ctx context.Context, opts *SummaryOptions) error {
	if opts == nil {
		opts = &SummaryOptions{}
	}
	if err := r.updateSummary(ctx, opts); err != nil {
		return &Error{Op: "update summary", Target: r.path, Err: err}
	}
	return nil
}

func (r *Repo) updateSummary(ctx context.Context, opts *SummaryOptions) error {
	// What prune and other transactions of ours change must stay as it is read.
	lock, err := r.lockShared(ctx)
	if err != nil {
		return err
	}
	defer unlock(lock)
	if err := mkdirat(r.dir, "tmp", 0o775); err != nil {
		return err
	}
	release, err := r.lockMetadata(ctx)
	if err != nil {
		return err
	}
	defer release()
	// The config may have changed since r was opened.
	text, err := readFileAt(r.dir, "config", maxConfigSize)
	if err != nil {
		return err
	}
	config, err := parseKeyFile(text)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if id, ok := config.get("core", "collection-id"); ok {
		return fmt.Errorf("core.collection-id %.80q: %w", id, errUnsupported)
	}
	deltas, err := r.summaryDeltas(ctx)
	if err != nil {
		return err
	}
	s, err := r.makeSummary(ctx, config, deltas, opts)
	if err != nil {
		return err
	}
	data, err := s.Marshal()
	if err != nil {
		return err
	}
	if len(data) > MaxMetadataSize {
		return fmt.Errorf("summary of %d bytes, at most %d", len(data), MaxMetadataSize)
	}
	var signatures []MetadataItem
	for _, s := range opts.Sign {
		sig, err := s.Signer.Sign(ctx, bytes.NewReader(data))
		if err == nil {
			err = checkSignature(ctx, s.Kind, sig)
		}
		if err == nil {
			signatures, err = addSignature(ctx, signatures, s.Kind, sig)
		}
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
	}
	if err := r.writeSummaryIndexes(deltas); err != nil {
		return err
	}
	if indexed, ok := config.get("core", "indexed-deltas"); !ok || indexed != "true" {
		config.set("core", "indexed-deltas", "true")
		if err := r.replace("config", config.bytes(), r.settings.fsync); err != nil {
			return err
		}
	}
	var sig []byte
	if signatures != nil {
		if sig, err = MarshalMetadata(signatures); err != nil {
			return err
		}
	}
	if err := r.replaceSummary(data, sig); err != nil {
		return err
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "updated summary", slog.Int("refs", len(s.Refs)), slog.Int("deltas", len(deltas)), slog.Int("signatures", len(opts.Sign)))
	return nil
}

// replaceSummary writes summary and summary.sig, or removes the latter if sig is
// nil.
func (r *Repo) replaceSummary(data, sig []byte) error {
	if sig == nil {
		if err := r.replace("summary", data, r.settings.fsync); err != nil {
			return err
		}
		if err := unix.Unlinkat(r.dir, "summary.sig", 0); err != nil && err != unix.ENOENT {
			return pathError("unlink", "summary.sig", err)
		}
		return nil
	}
	return r.replacePair("summary", data, "summary.sig", sig)
}

// replacePair replaces two files with as little time as may be between them.
func (r *Repo) replacePair(first string, a []byte, second string, b []byte) error {
	next := ".new-" + second
	if err := r.replace("tmp/"+next, b, r.settings.fsync); err != nil {
		return err
	}
	err := r.replace(first, a, r.settings.fsync)
	if err == nil {
		err = pathError("rename", second, retry(func() error { return unix.Renameat(r.dir, "tmp/"+next, r.dir, second) }))
	}
	if err != nil {
		_ = unix.Unlinkat(r.dir, "tmp/"+next, 0)
		return err
	}
	if r.settings.fsync {
		return fsyncDir(r.dir, ".")
	}
	return nil
}

func (r *Repo) makeSummary(ctx context.Context, config *keyFile, deltas []summaryDelta, opts *SummaryOptions) (*Summary, error) {
	s := &Summary{}
	err := r.eachRef(ctx, func(file string, c Checksum, err error) error {
		if strings.HasPrefix(file, "refs/mirrors/") {
			return fmt.Errorf("%s: refs of collections: %w", file, errUnsupported)
		}
		name, ok := strings.CutPrefix(file, "refs/heads/")
		if !ok || CheckRef(name) != nil {
			return nil // a remote's, or a temporary file
		}
		if err == nil {
			var ref SummaryRef
			if ref, err = r.summaryRef(ctx, name, c); err == nil {
				s.Refs = append(s.Refs, ref)
			}
		}
		if err != nil {
			return fmt.Errorf("ref %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(s.Refs, func(a, b SummaryRef) int { return cmp.Compare(a.Name, b.Name) })
	own := make(map[string]Variant)
	mode, _ := config.get("core", "mode")
	own[summaryMode] = StringVariant(mode)
	tombstones, err := config.boolean("core", "tombstone-commits", false)
	if err != nil {
		return nil, err
	}
	own[summaryTombstones] = BoolVariant(tombstones)
	own[summaryIndexed] = BoolVariant(true)
	if !opts.LastModified.IsZero() {
		if opts.LastModified.Unix() < 0 {
			return nil, fmt.Errorf("time %s is before 1970", opts.LastModified)
		}
		own[summaryLastModified] = timeVariant(opts.LastModified)
	}
	hidden, err := config.boolean("core", "no-deltas-in-summary", false)
	if err != nil {
		return nil, err
	}
	if len(deltas) > 0 && !hidden {
		if own[summaryDeltas], err = summaryDeltasVariant(deltas); err != nil {
			return nil, err
		}
	}
	for _, item := range opts.Metadata {
		if _, ok := own[item.Key]; !ok {
			own[item.Key] = item.Value
		}
	}
	for _, key := range slices.Sorted(maps.Keys(own)) {
		s.Metadata = append(s.Metadata, MetadataItem{key, own[key]})
	}
	return s, nil
}

// lastYear is the last second that libostree's dates can hold, in the year 9999.
const lastYear = 253402300799

func (r *Repo) summaryRef(ctx context.Context, name string, c Checksum) (SummaryRef, error) {
	data, err := r.object(ctx, TypeCommit, c)
	if err != nil {
		return SummaryRef{}, err
	}
	commit, err := DecodeCommit(data)
	if err != nil {
		return SummaryRef{}, err
	}
	ref := SummaryRef{Name: name, Commit: c, Size: uint64(len(data))}
	if commit.Timestamp.Unix() <= lastYear {
		ref.Metadata = append(ref.Metadata, MetadataItem{summaryTimestamp, timeVariant(commit.Timestamp)})
	}
	if v, ok := commit.Lookup("version"); ok && v.Type == "s" {
		ref.Metadata = append(ref.Metadata, MetadataItem{summaryVersion, v})
	}
	return ref, nil
}

// ReadSummary gives the bytes of the repository's summary and of its summary.sig,
// which [DecodeSummary] and [DecodeMetadata] read and [Verifier.Verify] checks.
// signature is nil if there is none. The error wraps [fs.ErrNotExist] if there is
// no summary.
func (r *Repo) ReadSummary(ctx context.Context) (summary, signature []byte, err error) {
	err = ctx.Err()
	if err == nil {
		summary, err = readFileAt(r.dir, "summary", MaxMetadataSize)
	}
	if err == nil {
		if signature, err = readFileAt(r.dir, "summary.sig", MaxMetadataSize); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return nil, nil, &Error{Op: "read summary of", Target: r.path, Err: err}
	}
	return summary, signature, nil
}

// summaryDelta is a static delta of the repository.
type summaryDelta struct {
	DeltaName
	superblock Checksum
}

// summaryDeltas gives the static deltas of the repository, sorted by the commits
// that they lead to.
func (r *Repo) summaryDeltas(ctx context.Context) ([]summaryDelta, error) {
	names, err := r.deltas(ctx)
	if err != nil {
		return nil, err
	}
	var deltas []summaryDelta
	for _, name := range names {
		c, err := r.hashFile(name.path("superblock"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		deltas = append(deltas, summaryDelta{name, c})
	}
	slices.SortStableFunc(deltas, func(a, b summaryDelta) int { return bytes.Compare(a.To[:], b.To[:]) })
	return deltas, nil
}

// hashFile gives the checksum of a regular file of the repository.
func (r *Repo) hashFile(file string) (c Checksum, err error) {
	fd, err := openat(r.dir, file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return c, err
	}
	f := unix.NewFile(fd, file)
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return c, err
	} else if !st.Mode().IsRegular() {
		return c, fmt.Errorf("%s: not a regular file", file)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return c, err
	}
	return Checksum(h.Sum(nil)), nil
}

// summaryDeltasVariant lists deltas as a summary and the files of delta-indexes/ do.
func summaryDeltasVariant(deltas []summaryDelta) (Variant, error) {
	items := make([]MetadataItem, len(deltas))
	for i := range deltas {
		items[i] = MetadataItem{deltas[i].String(), BytesVariant(deltas[i].superblock[:])}
	}
	slices.SortFunc(items, func(a, b MetadataItem) int { return cmp.Compare(a.Key, b.Key) })
	data, err := marshalDict(items)
	return Variant{"a{sv}", data}, err
}

// summaryIndexPath is where the static deltas to a commit are listed.
func summaryIndexPath(to Checksum) string {
	text := deltaEncoding.EncodeToString(to[:])
	return "delta-indexes/" + text[:2] + "/" + text[2:] + ".index"
}

// writeSummaryIndexes writes the files of delta-indexes/, one for each commit that
// a static delta leads to, and removes others. What does not change is not
// written.
func (r *Repo) writeSummaryIndexes(deltas []summaryDelta) error {
	wanted := make(map[string]bool)
	for len(deltas) > 0 {
		n := 1
		for n < len(deltas) && deltas[n].To == deltas[0].To {
			n++
		}
		list, err := summaryDeltasVariant(deltas[:n])
		if err != nil {
			return err
		}
		data, err := marshalDict([]MetadataItem{{summaryDeltas, list}})
		if err != nil {
			return err
		}
		file := summaryIndexPath(deltas[0].To)
		wanted[file] = true
		deltas = deltas[n:]
		if old, err := readFileAt(r.dir, file, int64(len(data))); err == nil && bytes.Equal(old, data) {
			continue
		}
		for _, dir := range []string{"delta-indexes", path.Dir(file)} {
			if err := mkdirat(r.dir, dir, 0o775); err != nil {
				return err
			}
		}
		if err := r.replace(file, data, r.settings.fsync); err != nil {
			return err
		}
	}
	folders, err := readNames(r.dir, "delta-indexes")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, folder := range folders {
		if !folder.IsDir() || len(folder.Name()) != 2 {
			continue
		}
		names, err := readNames(r.dir, "delta-indexes/"+folder.Name())
		if err != nil {
			return err
		}
		for _, e := range names {
			file := "delta-indexes/" + folder.Name() + "/" + e.Name()
			if wanted[file] || !strings.HasSuffix(file, ".index") {
				continue
			}
			if err := unix.Unlinkat(r.dir, file, 0); err != nil && err != unix.ENOENT {
				return pathError("unlink", file, err)
			}
		}
	}
	return nil
}
