package bootimage

import (
	"cmp"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// FileKind is what a file of a stream's bucket is.
type FileKind string

// The kinds of files. In brackets: what a [BucketFile] of the kind needs.
const (
	FileArtifact     FileKind = "artifact"      // a disk, its signature, anything beside meta.json [Build, Arch, Name]
	FileOCISignature FileKind = "oci-signature" // of a container image, in the sigstore layout [Name: REPOSITORY@sha256=HEX/signature-N]
	FileMeta         FileKind = "meta.json"     // the record of one architecture's build [Build, Arch]
	FileBuild        FileKind = "build-file"    // any other file of all architectures [Build, Name]
	FileRelease      FileKind = "release.json"  // [Build; Arch where it lies in the folder of one, as OKD's pipeline puts it]
	FileBuilds       FileKind = "builds.json"   // the catalogue
	FileIndex        FileKind = "releases.json" // the index of releases
	FileNotes        FileKind = "release-notes" // JSON for people's readers
	FileStream       FileKind = "stream"        // stream metadata
	FileUpdates      FileKind = "updates"       // rollouts, barriers, dead ends
)

// Stage is a part of publication, by the names that package publish has.
type Stage string

// The stages in which files are published; gates lie between the last two.
const (
	StageContent      Stage = "content"
	StageCatalogue    Stage = "catalogue"
	StageAnnouncement Stage = "announcement"
)

// IndexFile is the name of the index of releases.
const IndexFile = "releases.json"

// fileKinds are the kinds in the order of upload: each names only files of
// those before it. Ages, of caches, in seconds: coreos-assembler's buildupload
// for builds, plume's for the index, Fedora CoreOS' sync for the rest.
var fileKinds = []struct {
	kind              FileKind
	stage             Stage
	maxAge            int
	build, arch, name bool // what a file of the kind needs
}{
	{FileArtifact, StageContent, 31536000, true, true, true},
	{FileOCISignature, StageContent, 31536000, false, false, true},
	{FileMeta, StageCatalogue, 300, true, true, false},
	{FileBuild, StageCatalogue, 300, true, false, true},
	{FileRelease, StageCatalogue, 300, true, true, false},
	{FileBuilds, StageCatalogue, 300, false, false, false},
	{FileIndex, StageAnnouncement, 300, false, false, false},
	{FileNotes, StageAnnouncement, 60, false, false, false},
	{FileStream, StageAnnouncement, 60, false, false, false},
	{FileUpdates, StageAnnouncement, 60, false, false, false},
}

// streamFolders hold one document a stream, named after it.
var streamFolders = []struct {
	folder string
	kind   FileKind
}{{"streams", FileStream}, {"updates", FileUpdates}, {"release-notes", FileNotes}}

const ociSignatures = "prod/signatures/oci"

var reOCISignature = lazyregexp.New(`^[a-z0-9][a-z0-9._/-]{0,254}@sha256=[0-9a-f]{64}/signature-[1-9][0-9]{0,5}$`)

// Bucket is where the files of a stream lie: their keys in a store, and the
// addresses at which readers find them. It is the layout of coreos-assembler and
// its pipelines:
//
//	PREFIX/builds/builds.json
//	PREFIX/builds/ID/release.json
//	PREFIX/builds/ID/ARCH/meta.json
//	PREFIX/builds/ID/ARCH/FILE
//	PREFIX/releases.json
//	streams/STREAM.json, updates/STREAM.json, release-notes/STREAM.json
//	prod/signatures/oci/REPOSITORY@sha256=HEX/signature-N
//
// Fedora's and Red Hat's PREFIX is prod/streams/STREAM ([StreamBucket]). With the
// zero value the keys are paths in coreos-assembler's working directory
// (builds/builds.json, …), which has no documents of a stream; its symbolic link
// builds/latest is none of them, nor is any other folder that stands for a build.
type Bucket struct {
	// Stream names the documents of the stream; "": the bucket has none.
	Stream string
	// Prefix is the stream's folder; "": the store itself.
	Prefix string
	// Flat says that builds lie in Prefix itself, without a folder "builds", as
	// in mirrors of 2019 to 2022: releases/rhcos-4.9/ID/ARCH/FILE.
	Flat bool
	// Bases are addresses of the store, without slash at the end: the one that
	// documents name first, then its mirrors.
	Bases []string
	// ACL is the canned ACL that the objects should have: "public-read" with
	// Fedora, "bucket-owner-full-control" with OKD; "": the store's rule.
	ACL string
}

// StreamBucket is the bucket of a stream as Fedora CoreOS, RHCOS and SCOS have
// it: everything of the stream below prod/streams/STREAM.
func StreamBucket(stream string, bases ...string) Bucket {
	return Bucket{Stream: stream, Prefix: "prod/streams/" + stream, Bases: bases}
}

// BucketFile is one file of a stream; [FileKind] says which fields it needs,
// the others are empty.
type BucketFile struct {
	Kind  FileKind
	Build string
	Arch  string // RPM spelling
	Name  string
}

// BucketObject is a file as it is put into a store.
type BucketObject struct {
	File         BucketFile
	Key          string
	ContentType  string
	CacheControl string
	ACL          string
	Stage        Stage
	Immutable    bool // never replaced by other content
}

// Compare orders objects as they are uploaded: whatever one names comes before
// it. It is for [slices.SortFunc].
func (o BucketObject) Compare(p BucketObject) int {
	return cmp.Or(rank(o.File.Kind)-rank(p.File.Kind), strings.Compare(o.Key, p.Key))
}

func rank(kind FileKind) int {
	for i, k := range fileKinds {
		if k.kind == kind {
			return i
		}
	}
	return len(fileKinds)
}

// layoutError says what does not fit the layout. It wraps [fs.ErrInvalid].
func layoutError(format string, args ...any) error {
	return fmt.Errorf("bootimage: bucket: "+format+": %w", append(args, fs.ErrInvalid)...)
}

// check reports what keeps the bucket from having keys that can be told apart.
func (b Bucket) check() error {
	if b.Stream != "" && !reFile.MatchString(b.Stream) {
		return layoutError("%.80q is not the name of a stream", b.Stream)
	}
	if b.Prefix != "" && (len(b.Prefix) > 512 || !fs.ValidPath(b.Prefix) || b.Prefix == "." || strings.ContainsFunc(b.Prefix, isControl)) {
		return layoutError("prefix %.80q is not a folder", b.Prefix)
	}
	if b.Flat && b.Prefix == "" {
		return layoutError("flat, and no prefix")
	}
	for _, s := range streamFolders {
		if b.Prefix == s.folder {
			return layoutError("prefix %q is the folder of documents of streams", b.Prefix)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' }

// check reports which part of the file is missing, wrong or too much.
func (f BucketFile) check() error {
	at := rank(f.Kind)
	if at == len(fileKinds) {
		return layoutError("no file of kind %.40q", string(f.Kind))
	}
	optionalArch := f.Kind == FileRelease && f.Arch == ""
	for _, part := range []struct {
		name, value string
		needed      bool
		check       func(string) error
	}{
		{"build", f.Build, fileKinds[at].build, checkID},
		{"architecture", f.Arch, fileKinds[at].arch && !optionalArch, checkArch},
		{"name", f.Name, fileKinds[at].name, f.checkName},
	} {
		if !part.needed && part.value != "" {
			return layoutError("%s of a %s, which has none", part.name, f.Kind)
		}
		if part.needed {
			if err := part.check(part.value); err != nil {
				return layoutError("%s: %w", f.Kind, err)
			}
		}
	}
	return nil
}

func (f BucketFile) checkName(name string) error {
	switch {
	case f.Kind == FileOCISignature && (!reOCISignature.MatchString(name) || strings.Contains(name, "..") || strings.Contains(name, "//")):
		return fmt.Errorf("%.400q is not REPOSITORY@sha256=HEX/signature-N", name)
	case f.Kind != FileOCISignature && !reFile.MatchString(name):
		return fmt.Errorf("%.255q is not a file name", name)
	case name == ReleaseFile || f.Kind == FileArtifact && name == MetaFile:
		return fmt.Errorf("%s is a kind of its own", name)
	}
	return nil
}

// folder is that of the builds.
func (b Bucket) folder() string {
	if b.Flat {
		return b.Prefix
	}
	return path.Join(b.Prefix, "builds")
}

// Key is the key of a file. The error wraps [fs.ErrInvalid] where the file has
// none in this layout.
func (b Bucket) Key(f BucketFile) (string, error) {
	if err := b.check(); err != nil {
		return "", err
	}
	if err := f.check(); err != nil {
		return "", err
	}
	switch f.Kind {
	case FileOCISignature:
		return ociSignatures + "/" + f.Name, nil
	case FileBuilds:
		return path.Join(b.folder(), BuildsFile), nil
	case FileMeta:
		return path.Join(b.folder(), f.Build, f.Arch, MetaFile), nil
	case FileRelease:
		return path.Join(b.folder(), f.Build, f.Arch, ReleaseFile), nil
	case FileArtifact, FileBuild:
		return path.Join(b.folder(), f.Build, f.Arch, f.Name), nil
	}
	if b.Stream == "" {
		return "", layoutError("%s: the bucket has no stream", f.Kind)
	}
	for _, s := range streamFolders {
		if s.kind == f.Kind {
			return s.folder + "/" + b.Stream + ".json", nil
		}
	}
	return path.Join(b.Prefix, IndexFile), nil
}

// Object is a file with all that a store is told about it. The error is that of
// [Bucket.Key].
func (b Bucket) Object(f BucketFile) (BucketObject, error) {
	key, err := b.Key(f)
	if err != nil {
		return BucketObject{}, err
	}
	kind := fileKinds[rank(f.Kind)]
	return BucketObject{
		File: f, Key: key, ContentType: ContentType(key), CacheControl: fmt.Sprintf("max-age=%d", kind.maxAge),
		ACL: b.ACL, Stage: kind.stage, Immutable: kind.stage == StageContent,
	}, nil
}

// contentTypes by the end of a name: those that coreos-assembler's buildupload
// gives, and zstd's (RFC 8878).
var contentTypes = map[string]string{
	".json": "application/json",
	".tar":  "application/x-tar",
	".xz":   "application/x-xz",
	".gz":   "application/gzip",
	".zst":  "application/zstd",
	".iso":  "application/x-iso9660-image",
}

// ContentType is the media type of a file, by the end of its name;
// application/octet-stream where that says nothing.
func ContentType(file string) string {
	if t := contentTypes[path.Ext(file)]; t != "" {
		return t
	}
	return "application/octet-stream"
}

// Parse tells which file a key is of: the inverse of [Bucket.Key]. The error
// wraps [fs.ErrInvalid] for keys that are none of the layout's.
func (b Bucket) Parse(key string) (BucketFile, error) {
	if err := b.check(); err != nil {
		return BucketFile{}, err
	}
	f, ok := b.parse(key)
	if ok {
		// What has the form of a file is one only if its parts are good.
		if made, err := b.Key(f); err == nil && made == key {
			return f, nil
		}
	}
	return BucketFile{}, layoutError("%.200q is not of the layout", key)
}

func (b Bucket) parse(key string) (f BucketFile, ok bool) {
	if name, ok := strings.CutPrefix(key, ociSignatures+"/"); ok && strings.Contains(name, "@") {
		return BucketFile{Kind: FileOCISignature, Name: name}, true
	}
	for _, s := range streamFolders {
		if key == s.folder+"/"+b.Stream+".json" {
			return BucketFile{Kind: s.kind}, true
		}
	}
	if b.Stream != "" && key == path.Join(b.Prefix, IndexFile) {
		return BucketFile{Kind: FileIndex}, true
	}
	rest, ok := strings.CutPrefix(key, b.folder()+"/")
	if !ok {
		return f, false
	}
	switch parts := strings.Split(rest, "/"); {
	case len(parts) == 1:
		return BucketFile{Kind: FileBuilds}, rest == BuildsFile
	case len(parts) == 2 && parts[1] == ReleaseFile:
		return BucketFile{Kind: FileRelease, Build: parts[0]}, true
	case len(parts) == 2:
		return BucketFile{Kind: FileBuild, Build: parts[0], Name: parts[1]}, true
	case len(parts) == 3 && parts[2] == ReleaseFile:
		return BucketFile{Kind: FileRelease, Build: parts[0], Arch: parts[1]}, true
	case len(parts) == 3 && parts[2] == MetaFile:
		return BucketFile{Kind: FileMeta, Build: parts[0], Arch: parts[1]}, true
	case len(parts) == 3:
		return BucketFile{Kind: FileArtifact, Build: parts[0], Arch: parts[1], Name: parts[2]}, true
	}
	return f, false
}
