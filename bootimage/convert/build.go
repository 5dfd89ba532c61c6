package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/bootimage/disk"
)

// Options are options of [Build]; nil and the zero value are good.
type Options struct {
	// From is the artifact whose raw disk is converted. Default: metal, or else qemu where
	// that is raw.
	From string
	// Sizes are of disks that are larger than their source, in bytes, by platform; one that
	// is smaller is an error. Default: the source's size, for gcp rounded up to GiB, for
	// azure and azurestack to MiB, as they take nothing else.
	Sizes map[string]int64
	// OVF is what descriptors of OVAs say of the machine. Default: name, build and summary
	// of the record.
	OVF *disk.OVF
	// Compress is how artifacts are compressed that are not so already, after they were
	// made; those of powervs by gzip in any case. Default: not at all.
	Compress *bootimage.CompressOptions
	// Workers is how many goroutines compress blocks of disks, at most 8. Default: as many
	// as there are processors. It changes no byte.
	Workers int
	// Now is recorded as when meta.json was written; zero: what it says stays.
	Now time.Time
	// Progress is told how many bytes of the source are done with, as artifact "", then
	// of artifacts that are compressed, from several goroutines; it must not block.
	Progress func(artifact string, done, total int64)
}

// Made is an artifact that [Build] made.
type Made struct {
	Platform string          `json:"platform"` // and the artifact's name
	Image    bootimage.Image `json:"image"`    // as it is recorded
	// Why is why the disk could not be stamped for the platform; "": it is.
	Why string `json:"why,omitempty"`
}

// Build makes the artifacts of platforms in the build's folder dir, the one with meta.json,
// of its raw disk, which is read once whatever the number of platforms, without what is
// known to be zero. Formats are those of [disk.TargetFor], names those that
// coreos-assembler gives ([bootimage.ArtifactPath]). What the record has already is passed
// over, so that a second run changes nothing, and gives nothing.
//
// Each disk is stamped for its platform. One that cannot be, as it has no ext4 file system
// with a boot entry, or is of s390x, becomes artifacts that are recorded as unstamped, and
// [Made] says why: Ignition finds no configuration there. Where stamping fails otherwise, as
// of a file system that was not unmounted cleanly, nothing is made. All artifacts are recorded in one
// change of meta.json when all are whole; with Compress each once more when it is compressed.
//
// The disk is hashed in the same read. One that is not what meta.json says is an error of
// [bootimage.ErrVerification], before any file has its name. Errors also wrap
// [io/fs.ErrNotExist] where there is no raw disk, [errors.ErrUnsupported] for platforms that
// are not known or not made here, and for metal4k, which is made of nothing but a disk with
// sectors of 4096 bytes, as only it is; what [disk.Convert] says; [io/fs.ErrExist] for an
// artifact that others recorded meanwhile. After an error nothing is recorded, unless it is
// one of compressing, which the next run goes on with. It needs some 200 MB of memory at any
// size. One process works on a build at a time; others wait.
func Build(ctx context.Context, dir *os.Root, platforms []string, opts *Options) ([]Made, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	made := make(map[string]*Made)
	err := bootimage.AddArtifacts(ctx, dir, o.Now, func(ctx context.Context, meta *bootimage.Meta) (map[string]bootimage.Image, error) {
		wanted := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(platforms))), func(name string) bool {
			_, ok := meta.Images[name]
			return ok
		})
		if len(wanted) == 0 {
			return nil, nil
		}
		images, err := o.convert(ctx, dir, meta, wanted, made)
		if err != nil {
			return nil, fmt.Errorf("convert: %w", err)
		}
		return images, nil
	})
	if err != nil {
		return nil, err
	}
	if o.Compress != nil {
		if err := o.compress(ctx, dir, platforms, made); err != nil {
			return nil, err
		}
	}
	all := make([]Made, 0, len(made))
	for _, name := range slices.Sorted(maps.Keys(made)) {
		all = append(all, *made[name])
	}
	return all, nil
}

// source gives the artifact whose disk is converted.
func (o *Options) source(images map[string]bootimage.Image) (bootimage.Image, error) {
	names := []string{"metal", "qemu"}
	if o.From != "" {
		names = []string{o.From}
	}
	for _, name := range names {
		image, ok := images[name]
		switch {
		case ok && path.Ext(image.Path) == ".raw":
			return image, nil
		case ok && image.UncompressedSHA256 != "" && (strings.Contains(image.Path, ".raw.") || o.From != ""):
			return image, fmt.Errorf("artifact %s, %s, is compressed; uncompress it first: %w", name, image.Path, fs.ErrNotExist)
		}
	}
	return bootimage.Image{}, fmt.Errorf("no artifact %s with a raw disk: %w", strings.Join(names, " or "), fs.ErrNotExist)
}

// convert makes files of the source and says what they are.
func (o *Options) convert(ctx context.Context, dir *os.Root, meta *bootimage.Meta, platforms []string, made map[string]*Made) (_ map[string]bootimage.Image, err error) {
	from, err := o.source(meta.Images)
	if err != nil {
		return nil, err
	}
	if meta.Arch == "" {
		return nil, fmt.Errorf("%s names no architecture: %w", bootimage.MetaFile, fs.ErrInvalid)
	}
	info, err := dir.Lstat(from.Path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: %w", from.Path, fs.ErrInvalid)
	}
	if from.Size != 0 && info.Size() != from.Size {
		return nil, fmt.Errorf("%s has %d bytes, recorded are %d: %w", from.Path, info.Size(), from.Size, bootimage.ErrVerification)
	}
	file, err := dir.Open(from.Path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	image, err := disk.Open(ctx, file, info.Size(), &disk.OpenOptions{Format: disk.Raw})
	if err != nil {
		return nil, err
	}
	look := &cached{r: image, size: image.Size(), blocks: map[int64][]byte{}}
	sectors, err := sectorSize(ctx, look)
	if err != nil {
		return nil, err
	}
	var targets []disk.Target
	for _, name := range platforms {
		t, why, err := o.target(ctx, look, meta, name, sectors)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
		made[name] = &Made{Platform: name, Why: why}
	}
	progress := func(done, total int64) {
		if o.Progress != nil {
			o.Progress("", done, total)
		}
	}
	results, err := disk.Convert(ctx, dir, image, targets, &disk.ConvertOptions{
		Workers: o.Workers, Hash: true, Progress: progress,
		Verify: func(sum string) error {
			if sum != from.SHA256 {
				return fmt.Errorf("SHA-256 of %s is %s, recorded is %s: %w", from.Path, sum, from.SHA256, bootimage.ErrVerification)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	images := make(map[string]bootimage.Image)
	for i, r := range results {
		if err := dir.Chmod(r.Name, 0o444); err != nil { // as coreos-assembler leaves artifacts
			return nil, err
		}
		image := bootimage.Image{Path: r.Name, SHA256: r.SHA256, Size: r.Size, SkipCompression: packed(targets[i]), Unstamped: r.Platform == ""}
		images[platforms[i]], made[platforms[i]].Image = image, image
	}
	return images, nil
}

// sectorSize is that of the disk's partition table, 512 where there is none.
func sectorSize(ctx context.Context, image *cached) (int64, error) {
	table, err := disk.Partitions(ctx, image, image.size)
	if errors.Is(err, fs.ErrNotExist) {
		return 512, nil
	}
	if err != nil {
		return 0, err
	}
	return table.SectorSize, nil
}

// packed reports whether a file of the target has nothing that compressing it would gain.
func packed(t disk.Target) bool {
	return t.Format == disk.GCP || t.Format == disk.KubeVirt || t.Format == disk.OVA || t.Compression != ""
}

// target is what to make for a platform, and why it is not stamped.
func (o *Options) target(ctx context.Context, image *cached, meta *bootimage.Meta, platform string, sectors int64) (t disk.Target, why string, err error) {
	if t, err = disk.TargetFor(platform); err != nil {
		return t, "", err
	}
	if (platform == "metal4k") != (sectors == 4096) {
		return t, "", fmt.Errorf("%s of a disk with sectors of %d bytes: %w", platform, sectors, errors.ErrUnsupported)
	}
	id := strings.TrimSuffix(platform, "4k")
	t.Stamp, err = disk.Stamp(ctx, image, image.size, id, &disk.StampOptions{Arch: meta.Arch})
	switch unstampable := errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) && meta.Arch == "s390x"; {
	case unstampable && !slices.Contains(disk.Platforms(), id):
		return t, "", fmt.Errorf("platform %.80q; there are %s: %w", platform, strings.Join(disk.Platforms(), ", "), errors.ErrUnsupported)
	case unstampable:
		why = err.Error()
	case err != nil:
		return t, "", err
	}
	t.Name = bootimage.ArtifactPath(meta.Name, meta.BuildID, platform, meta.Arch, t.Format.Extension())
	for other, image := range meta.Images {
		if image.Path == t.Name {
			return t, "", fmt.Errorf("%s is the file of artifact %s: %w", t.Name, other, fs.ErrExist)
		}
	}
	t.Architecture = meta.Arch
	t.OVF = o.OVF
	if t.OVF == nil {
		t.OVF = &disk.OVF{Name: meta.Name, Version: meta.BuildID, Product: meta.Summary}
	}
	if t.Size = o.Sizes[platform]; t.Size == 0 {
		t.Size = roundUp(image.size, sizeUnits[platform])
	}
	return t, why, nil
}

// sizeUnits are what clouds want disks to be multiples of, in bytes.
var sizeUnits = map[string]int64{"azure": 1 << 20, "azurestack": 1 << 20, "gcp": 1 << 30}

func roundUp(n, unit int64) int64 {
	if unit == 0 {
		return n
	}
	return (n + unit - 1) / unit * unit
}

// compress compresses the artifacts of platforms.
func (o *Options) compress(ctx context.Context, dir *os.Root, platforms []string, made map[string]*Made) error {
	runtime.GC() // or its buffers come on top of what the conversion left
	done, err := bootimage.CompressBuild(ctx, dir, &bootimage.CompressBuildOptions{
		Compress: *o.Compress, Compressors: map[string]bootimage.Compressor{"powervs": bootimage.CompressGzip}, Artifacts: platforms, Now: o.Now, Progress: o.Progress,
	})
	for _, r := range done {
		if made[r.Artifact] == nil { // of a run before
			made[r.Artifact] = &Made{Platform: r.Artifact}
		}
		made[r.Artifact].Image = r.New
	}
	return err
}
