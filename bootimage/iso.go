package bootimage

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/internal/decompress"
	"github.com/okd-project/okd-streams/internal/readers"
	"github.com/okd-project/okd-streams/internal/verify"
)

// ISOComponent is the component of a release payload that holds live ISOs: its
// image of an architecture has that of this architecture in the folder coreos, as
// NAME-ARCH.iso beside its checksum, NAME-ARCH.iso.sha256.
const ISOComponent = "machine-os-images"

const isoFolder = "coreos"

// ISOOptions say which ISO of an image is looked for.
type ISOOptions struct {
	// Arch is its architecture, in the spelling of RPM. Default: any that is there.
	Arch string
	// Name is what file names begin with: coreos for the default stream, coreos10 for
	// that of RHEL 10 where an image has both. Default: coreos.
	Name string
	// SHA256 is what the ISO must have, as the ConfigMap of the same payload says it:
	// then the largest layers are looked at first and nothing after the ISO is read.
	// Default: not known; then layers are read from the uppermost on, each to its end,
	// and the ISO must have the checksum that lies beside it.
	SHA256 string
	// Progress, if not nil, is told how many bytes of the ISO were written. It must
	// not block.
	Progress func(done, total int64)
}

// ImageISO is a live ISO in a layer of an image.
type ImageISO struct {
	Path   string `json:"path"` // in the image, such as coreos/coreos-x86_64.iso
	Arch   string `json:"arch"`
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hexadecimal; "": nothing that was read says it
	Layer  string `json:"layer"`  // digest
}

// Limits of what is read of an image.
const (
	maxISOSize      = 16 << 30 // bytes
	maxLayerSize    = 64 << 30 // bytes, of the content
	maxLayerEntries = 1 << 20
)

// FindISO tells where in an image of [ISOComponent] a live ISO is. With
// [ISOOptions.SHA256] it reads of each layer that it looks at only what comes
// before the ISO, some kilobytes as these images are made; that the ISO has this
// checksum is known when it is extracted. Without, it reads layers as ExtractISO
// does. The error wraps [io/fs.ErrNotExist] where there is none.
func FindISO(ctx context.Context, img v1.Image, opts *ISOOptions) (*ImageISO, error) {
	return readISO(ctx, img, opts, nil)
}

// ExtractISO writes a live ISO of an image to the file name in dst. Nothing is under
// the name before the ISO is whole and verified: it has [ISOOptions.SHA256], or the
// checksum that lies beside it while its layer has the digest that the image says.
// What was there is replaced. Errors wrap [ErrVerification] for other bytes and
// [io/fs.ErrNotExist] where there is no ISO.
func ExtractISO(ctx context.Context, dst *os.Root, name string, img v1.Image, opts *ISOOptions) (iso *ImageISO, err error) {
	if name == "" || path.Base(name) != name || name == "." || name == ".." {
		return nil, fmt.Errorf("bootimage: iso: %q is not the name of a file: %w", name, fs.ErrInvalid)
	}
	part := "." + name + ".part"
	file, err := lockFile(ctx, dst, part)
	if err != nil {
		return nil, fmt.Errorf("bootimage: iso: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dst.Remove(part))
		}
		err = errors.Join(err, file.Close())
	}()
	if iso, err = readISO(ctx, img, opts, file); err != nil {
		return nil, err
	}
	if err = errors.Join(file.Sync(), dst.Rename(part, name)); err != nil {
		return nil, fmt.Errorf("bootimage: iso: %w", err)
	}
	folder, err := dst.Open(".")
	if err != nil {
		return nil, fmt.Errorf("bootimage: iso: %w", err)
	}
	if err = errors.Join(folder.Sync(), folder.Close()); err != nil {
		return nil, fmt.Errorf("bootimage: iso: %w", err)
	}
	return iso, nil
}

// isISOSum reports whether text is a SHA-256, in lower-case hexadecimal.
func isISOSum(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == sha256.Size && hex.EncodeToString(sum) == text
}

// isoReader looks for an ISO in the layers of an image.
type isoReader struct {
	opts ISOOptions
	out  *os.File // nil: only where it is
	iso  *ImageISO
	said string // the checksum beside it
	gone bool   // an upper layer hides it
}

func readISO(ctx context.Context, img v1.Image, opts *ISOOptions, out *os.File) (*ImageISO, error) {
	r := &isoReader{out: out}
	if opts != nil {
		r.opts = *opts
	}
	r.opts.Name = cmp.Or(r.opts.Name, "coreos")
	if r.opts.SHA256 != "" && !isISOSum(r.opts.SHA256) {
		return nil, fmt.Errorf("bootimage: iso: checksum %.80q: %w", r.opts.SHA256, fs.ErrInvalid)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("bootimage: iso: %w", err)
	}
	sizes := make(map[v1.Layer]int64, len(layers))
	for _, l := range layers {
		if sizes[l], err = l.Size(); err != nil {
			return nil, fmt.Errorf("bootimage: iso: %w", err)
		}
	}
	layers = slices.Clone(layers)
	slices.Reverse(layers)
	if r.opts.SHA256 != "" {
		slices.SortStableFunc(layers, func(a, b v1.Layer) int { return cmp.Compare(sizes[b], sizes[a]) })
	}
	for _, l := range layers {
		err := r.layer(ctx, l, sizes[l])
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("bootimage: iso: %w", err)
		}
		if r.iso != nil {
			return r.iso, nil
		}
		if r.gone {
			break
		}
	}
	arch := cmp.Or(r.opts.Arch, "ARCH")
	return nil, fmt.Errorf("bootimage: iso: no %s/%s-%s.iso in %d layers: %w", isoFolder, r.opts.Name, arch, len(layers), fs.ErrNotExist)
}

// errEnough ends the reading of a layer.
var errEnough = errors.New("enough")

// layer looks into one.
func (r *isoReader) layer(ctx context.Context, l v1.Layer, size int64) (err error) {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	compressed, err := l.Compressed()
	if err != nil {
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	defer func() { err = errors.Join(err, compressed.Close()) }()
	checked, err := verify.NewReader(cancelled{ctx, compressed}, digest, size)
	if err != nil {
		return err
	}
	err = r.tar(bufio.NewReaderSize(checked, 256<<10))
	if errors.Is(err, errEnough) {
		r.iso.Layer = digest.String()
		return nil
	}
	// That the bytes are others explains whatever else is wrong with them.
	if _, end := io.Copy(io.Discard, checked); end != nil {
		err = end
	}
	if errors.Is(err, verify.ErrDigest) {
		err = fmt.Errorf("%w: %w", err, ErrVerification)
	}
	if err != nil {
		r.iso = nil
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	if r.iso == nil {
		return nil
	}
	r.iso.Layer = digest.String()
	switch {
	case r.said == "" && r.iso.SHA256 == "":
	case r.said == "":
		return fmt.Errorf("%s: no checksum beside it: %w", r.iso.Path, ErrVerification)
	case r.iso.SHA256 == "":
		r.iso.SHA256 = r.said
	case r.said != r.iso.SHA256:
		return fmt.Errorf("%s: SHA-256 is %s, beside it is %s: %w", r.iso.Path, r.iso.SHA256, r.said, ErrVerification)
	}
	return nil
}

// tar reads the entries of a layer; [errEnough]: the ISO has been read.
func (r *isoReader) tar(in io.Reader) (err error) {
	plain, err := decompress.NewReader(in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plain.Close()) }()
	limited := &io.LimitedReader{R: plain, N: maxLayerSize}
	entries := tar.NewReader(limited)
	for range maxLayerEntries {
		head, err := entries.Next()
		if err == io.EOF {
			if limited.N == 0 {
				return fmt.Errorf("more than %d bytes: %w", int64(maxLayerSize), errors.ErrUnsupported)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.entry(head, entries); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d entries: %w", maxLayerEntries, errors.ErrUnsupported)
}

// entry looks at one entry of a layer.
func (r *isoReader) entry(head *tar.Header, content io.Reader) error {
	name := path.Clean(strings.TrimLeft(head.Name, "/"))
	dir, base := path.Split(name)
	switch dir = path.Clean(dir); {
	case r.opts.SHA256 == "" && (name == ".wh."+isoFolder || dir == isoFolder && base == ".wh..wh..opq"):
		r.gone = true // in the layers below
		return nil
	case dir != isoFolder:
		return nil
	}
	file, sum := strings.CutSuffix(base, ".sha256")
	removed := false
	if r.opts.SHA256 == "" {
		file, removed = strings.CutPrefix(file, ".wh.")
	}
	arch, ok := strings.CutPrefix(strings.TrimSuffix(file, ".iso"), r.opts.Name+"-")
	switch {
	case !ok || !strings.HasSuffix(file, ".iso") || strings.ContainsAny(arch, "-.") || arch == "" || r.opts.Arch != "" && arch != r.opts.Arch:
		return nil
	case removed && !sum:
		r.gone = r.gone || r.opts.Arch != ""
		return nil
	case removed:
		return nil
	case head.Typeflag != tar.TypeReg:
		return fmt.Errorf("%s is not a file: %w", name, errors.ErrUnsupported)
	case sum:
		return r.sum(arch, content)
	case r.iso != nil:
		if r.iso.Arch == arch {
			return fmt.Errorf("%s is there twice: %w", name, errors.ErrUnsupported)
		}
		return nil // of another architecture
	case readers.Sparse(head):
		return fmt.Errorf("%s is sparse: %w", name, errors.ErrUnsupported)
	case head.Size > maxISOSize:
		return fmt.Errorf("%s of %d bytes, more than %d: %w", name, head.Size, int64(maxISOSize), errors.ErrUnsupported)
	}
	r.iso = &ImageISO{Path: name, Arch: arch, Size: head.Size}
	return r.content(content)
}

// sum reads the checksum beside an ISO, which comes before it or after it.
func (r *isoReader) sum(arch string, content io.Reader) error {
	if r.iso != nil && r.iso.Arch != arch {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(content, 1000))
	if err != nil {
		return err
	}
	said, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ") // as sha256sum writes it, too
	if !isISOSum(said) {
		return fmt.Errorf("checksum %.80q: %w", said, ErrVerification)
	}
	r.said = said
	return nil
}

// content writes the ISO, or passes over it.
func (r *isoReader) content(content io.Reader) error {
	want := r.opts.SHA256
	if r.out == nil {
		if want != "" {
			r.iso.SHA256 = want
			return errEnough
		}
		return nil
	}
	if err := r.out.Truncate(0); err != nil {
		return err
	}
	sum := sha256.New()
	in := content
	if r.opts.Progress != nil {
		in = &progressReader{r: content, total: r.iso.Size, show: r.opts.Progress}
	}
	if _, err := io.Copy(io.MultiWriter(r.out, sum), in); err != nil {
		return err
	}
	r.iso.SHA256 = hex.EncodeToString(sum.Sum(nil))
	switch {
	case want == "":
		return nil
	case want != r.iso.SHA256:
		return fmt.Errorf("%s: SHA-256 is %s, want %s: %w", r.iso.Path, r.iso.SHA256, want, ErrVerification)
	}
	return errEnough
}

// cancelled reads until its context ends.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
