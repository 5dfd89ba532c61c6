package cluster

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// builderPackages are Debian's packages in the image of builders: buildah with its
// configuration, git, and what scripts call.
var builderPackages = []string{"buildah", "golang-github-containers-image", "golang-github-containers-common", "git", "dash", "coreutils", "sed"}

// BuilderImage gives, by digest, an image in which node images and components are built, made of
// packages that are installed on this machine. Tekton has its scripts placed by the same.
func (c *Cluster) BuilderImage(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "layer.tar")
	if err := packageTree(file, builderPackages); err != nil {
		t.Fatal("image of the builder: ", err)
	}
	// Compressed for a registry beside it, it would only cost time.
	layer, err := tarball.LayerFromFile(file, tarball.WithCompressionLevel(0))
	if err != nil {
		t.Fatal("image of the builder: ", err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal("image of the builder: ", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal("image of the builder: ", err)
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = runtime.GOARCH, "linux"
	config.Config.Env = []string{"PATH=/usr/bin:/usr/sbin"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal("image of the builder: ", err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal("image of the builder: ", err)
	}
	own := c.Registry + "/okd/builder"
	for _, at := range []string{own + ":1", c.tektonImage("shell")} {
		ref, err := name.ParseReference(at, name.Insecure)
		if err != nil {
			t.Fatal("image of the builder: ", err)
		}
		if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
			t.Fatal("image of the builder: ", err)
		}
	}
	return own + "@" + digest.String()
}

// packageTree writes a tar file with the files of packages, and the libraries that their programs load.
func packageTree(file string, packages []string) error {
	list, err := exec.Command("dpkg", append([]string{"--listfiles"}, packages...)...).Output()
	if err != nil {
		return fmt.Errorf("dpkg --listfiles %s: %w", strings.Join(packages, " "), err)
	}
	files := map[string]bool{}
	for path := range strings.Lines(string(list)) {
		path = strings.TrimSuffix(path, "\n")
		for _, not := range []string{"/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/usr/share/lintian"} {
			if strings.HasPrefix(path, not) {
				path = ""
			}
		}
		if info, err := os.Lstat(path); path != "" && err == nil && !info.IsDir() {
			files[path] = true
		}
	}
	var programs []string
	for path := range files {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			programs = append(programs, path)
		}
	}
	libraries, err := Libraries(programs...)
	if err != nil {
		return err
	}
	for _, path := range libraries {
		files[path] = true
	}

	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	archive := tar.NewWriter(out)
	for _, dir := range []string{"etc", "proc", "root", "tmp", "var/tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"} {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o777}); err != nil {
			return err
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: dir, Linkname: "usr/" + dir, Mode: 0o777}); err != nil {
			return err
		}
	}
	const passwd = "root:x:0:0:root:/root:/bin/sh\n"
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644, Size: int64(len(passwd))}); err != nil {
		return err
	}
	if _, err := io.WriteString(archive, passwd); err != nil {
		return err
	}
	sorted := make([]string, 0, len(files))
	for path := range files {
		sorted = append(sorted, path)
	}
	slices.Sort(sorted)
	for _, path := range sorted {
		if err := addFile(archive, path); err != nil {
			return err
		}
	}
	return archive.Close()
}

// addFile adds a file under the path that it has where /bin is a link to /usr/bin.
func addFile(archive *tar.Writer, path string) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name = strings.TrimPrefix(filepath.Join(dir, filepath.Base(path)), "/")
	h.Uname, h.Gname = "", ""
	if err := archive.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(archive, in)
	return err
}

// Libraries are the files that programs load, as ldd finds them; that of a link, too.
func Libraries(programs ...string) ([]string, error) {
	var out []string
	for _, program := range programs {
		text, err := exec.Command("ldd", program).Output()
		if err != nil {
			continue // a script, or static
		}
		for field := range strings.FieldsSeq(string(text)) {
			if !filepath.IsAbs(field) {
				continue
			}
			real, err := filepath.EvalSymlinks(field)
			if err != nil {
				return nil, err
			}
			out = append(out, field, real)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
