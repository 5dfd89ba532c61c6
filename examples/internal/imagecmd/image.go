package imagecmd

import (
	"archive/tar"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// program is where the binary is in the image.
const program = "usr/bin/okd-streams"

// nobody is whom the image runs as where the runtime does not say: no user of
// its own, so that it has to work for every one.
const nobody = "65532:65532"

// checkBinary gives the architecture, as containers spell it, of a binary that
// can run alone in an image.
func checkBinary(path string) (string, error) {
	file, err := elf.Open(path)
	if err != nil {
		if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
			return "", err
		}
		return "", ui.Usagef("%s is not a Linux program: %w", path, err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return "", ui.Usagef("%s needs shared libraries, which the image has not; build it with CGO_ENABLED=0", path)
		}
	}
	if file.Type != elf.ET_EXEC && file.Type != elf.ET_DYN {
		return "", ui.Usagef("%s is not a program", path)
	}
	little := file.Data == elf.ELFDATA2LSB
	switch {
	case file.Machine == elf.EM_X86_64:
		return "amd64", nil
	case file.Machine == elf.EM_AARCH64 && little:
		return "arm64", nil
	case file.Machine == elf.EM_PPC64 && little:
		return "ppc64le", nil
	case file.Machine == elf.EM_S390:
		return "s390x", nil
	}
	return "", ui.Usagef("%s is for %s, for which there is no stream; want amd64, arm64, ppc64le or s390x", path, file.Machine)
}

// taskImage makes the image of a binary and gives the size of its layer. The
// compressed layer is kept at scratch as long as the image is used.
func taskImage(path, scratch, arch string, created time.Time, labels map[string]string) (v1.Image, int64, error) {
	if err := writeLayer(path, scratch, created); err != nil {
		return nil, 0, fmt.Errorf("layer of %s: %w", path, err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return os.Open(scratch) }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, 0, err
	}
	size, err := layer.Size()
	if err != nil {
		return nil, 0, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: arch, OS: "linux", Created: v1.Time{Time: created},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/" + program}, User: nobody, WorkingDir: "/tmp", Labels: labels,
			Env: []string{"PATH=/usr/bin"},
		},
	})
	if err != nil {
		return nil, 0, err
	}
	img, err = mutate.Append(img, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer,
		History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "okd-streams image build"},
	})
	return img, size, err
}

// writeLayer writes the layer of a binary. gzip is the pinned module's, not the
// standard library's, whose bytes may change with Go.
func writeLayer(path, to string, created time.Time) (err error) {
	binary, err := os.Open(path)
	if err != nil {
		return err
	}
	defer binary.Close()
	info, err := binary.Stat()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	compressed, err := gzip.NewWriterLevel(file, gzip.DefaultCompression)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(compressed)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		{Typeflag: tar.TypeDir, Name: "usr/", Mode: 0o755},
		{Typeflag: tar.TypeDir, Name: "usr/bin/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: program, Mode: 0o755, Size: info.Size()},
	} {
		h.Format, h.ModTime = tar.FormatUSTAR, created
		if err := archive.WriteHeader(&h); err != nil {
			return err
		}
	}
	if _, err := io.Copy(archive, binary); err != nil {
		return err
	}
	return errors.Join(archive.Close(), compressed.Close())
}
