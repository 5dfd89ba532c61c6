package payload

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"

	"github.com/okd-project/okd-streams/internal/atomicfile"
	"github.com/okd-project/okd-streams/internal/readers"
)

// tool is a program for one operating system and architecture.
type tool struct {
	command, os, arch string // arch "": that of the release
	variant           string // "rhel8", "rhel9"
	component, path   string
	archive           string // name without version and ending
	markers           []marker
	onRequest         bool // not among all tools
}

const (
	clientReadme  = "The client tools of this release: oc, and kubectl, which is the same\nprogram under the name that scripts may expect.\n\nPut them into a folder of your PATH. `oc help` lists what they can do;\n`oc login` connects to a cluster.\n"
	installReadme = "The installer of this release. It is made to install exactly this release.\n\nPut it into a folder of your PATH and run `openshift-install create cluster`.\n"
	ccoctlReadme  = "The cloud credential tool of this release, for clusters whose credentials are\nmade by hand.\n"
)

// tools is all there is, in the order of archives.
func tools() []tool {
	var out []tool
	install := []marker{markerImage, markerVersion, markerArchitecture}
	add := func(t tool) { out = append(out, t) }
	add(tool{command: "ccoctl", os: "linux", component: "cloud-credential-operator", path: "usr/bin/ccoctl", archive: "ccoctl-linux"})
	add(tool{command: "oc", os: "linux", component: "cli", path: "usr/bin/oc", archive: "openshift-client-linux", markers: []marker{markerVersion}})
	add(tool{command: "oc", os: "mac", arch: "amd64", component: "cli-artifacts", path: "usr/share/openshift/mac/oc", archive: "openshift-client-mac", markers: []marker{markerVersion}})
	add(tool{command: "oc", os: "mac", arch: "arm64", component: "cli-artifacts", path: "usr/share/openshift/mac_arm64/oc", archive: "openshift-client-mac-arm64", markers: []marker{markerVersion}})
	add(tool{command: "oc", os: "windows", arch: "amd64", component: "cli-artifacts", path: "usr/share/openshift/windows/oc.exe", archive: "openshift-client-windows", markers: []marker{markerVersion}})
	add(tool{command: "openshift-install", os: "linux", component: "installer", path: "usr/bin/openshift-install", archive: "openshift-install-linux", markers: install})
	add(tool{command: "openshift-install", os: "mac", arch: "amd64", component: "installer-artifacts", path: "usr/share/openshift/mac/openshift-install", archive: "openshift-install-mac", markers: install})
	add(tool{command: "openshift-install", os: "mac", arch: "arm64", component: "installer-artifacts", path: "usr/share/openshift/mac_arm64/openshift-install", archive: "openshift-install-mac-arm64", markers: install})
	for _, arch := range []string{"amd64", "arm64", "ppc64le", "s390x"} {
		folder := "usr/share/openshift/linux_" + arch + "/"
		add(tool{command: "oc", os: "linux", arch: arch, component: "cli-artifacts", path: folder + "oc", archive: "openshift-client-linux-" + arch, markers: []marker{markerVersion}})
		for _, variant := range []string{"rhel8", "rhel9"} {
			add(tool{command: "oc", os: "linux", arch: arch, variant: variant, component: "cli-artifacts", path: folder + "oc." + variant,
				archive: "openshift-client-linux-" + arch + "-" + variant, markers: []marker{markerVersion}})
		}
		add(tool{command: "openshift-install", os: "linux", arch: arch, component: "installer-artifacts", path: folder + "openshift-install", archive: "openshift-install-linux-" + arch, markers: install})
	}
	for _, variant := range []string{"rhel8", "rhel9"} {
		add(tool{command: "ccoctl", os: "linux", variant: variant, component: "cloud-credential-operator", path: "usr/bin/ccoctl." + variant, archive: "ccoctl-linux-" + variant})
	}
	add(tool{command: "openshift-baremetal-install", os: "linux", component: "baremetal-installer", path: "usr/bin/openshift-install", archive: "openshift-baremetal-install-linux", markers: install, onRequest: true})
	add(tool{command: "openshift-install-fips", os: "linux", component: "installer", path: "usr/bin/openshift-install-fips", archive: "openshift-install-fips-linux", markers: install, onRequest: true})
	return out
}

// ToolsOptions say which tools [Release.Tools] extracts, and how. Nil is the
// default.
type ToolsOptions struct {
	// OS are operating systems (linux, mac, windows), perhaps with an
	// architecture (linux/arm64, as Go spells them). Default: all.
	OS []string
	// Commands are oc, openshift-install, openshift-baremetal-install,
	// openshift-install-fips and ccoctl; oc.rhel8, oc.rhel9 and so on are the
	// variants for these systems. What is asked for by name has to be there.
	// Default: all but the installers for bare metal and FIPS, as far as they
	// are there.
	Commands []string
	// Pullspec to write into the programs. Default: the release's.
	Pullspec string
	// Platform to choose from indexes. Default linux/amd64.
	Platform v1.Platform
	// TempDir is where programs are kept until their layer is known to be
	// right, as large as they are. Default: the system's.
	TempDir string
	// Sign, if not nil, signs sha256sum.txt; what it gives, detached and in
	// text, is written to sha256sum.txt.asc.
	Sign Signer
}

// Tool is an archive with a program.
type Tool struct {
	File      string // name of the archive
	SHA256    v1.Hash
	Size      int64  // bytes
	Command   string // name of the program
	OS, Arch  string // as Go spells them
	Component string // it comes from
	Warnings  []string
}

// ToolSet is what [Release.Tools] wrote.
type ToolSet struct {
	Tools []Tool
	// Missing are archives that could have been and are not, because the release
	// has no such component or the component no such file.
	Missing []string
	// Sums is sha256sum.txt, of the archives and of release.txt.
	Sums []byte
}

// Tools extracts the client tools of the release, each in an archive with a
// read-me, into a folder that exists, with release.txt, a description of the
// release, and sha256sum.txt. Each layer of the components is fetched at most
// once, and not at all where programs are in those above.
//
// Version, pullspec and architecture of the release are written into the
// programs, into the room that they have for it; what does not fit is an
// error. Programs for macOS on arm64 get a new ad-hoc signature after that. The
// same release gives the same bytes: times in archives are those of the files
// in the images.
//
// Nothing is written of a component before its bytes are verified. The files
// come under their names whole or not at all; sha256sum.txt comes last.
func (r *Release) Tools(ctx context.Context, src Images, dir string, opts *ToolsOptions) (*ToolSet, error) {
	if opts == nil {
		opts = &ToolsOptions{}
	}
	x := &toolExtraction{release: r, dir: dir, opts: opts}
	set, err := x.run(ctx, src)
	if err != nil {
		if _, ok := errors.AsType[*Error](err); ok {
			return nil, err
		}
		return nil, &Error{Op: "extract", Target: "tools of " + r.Version(), Err: err}
	}
	return set, nil
}

type toolExtraction struct {
	release *Release
	dir     string
	opts    *ToolsOptions
	files   *imageFiles
	sums    map[string]v1.Hash
}

func (x *toolExtraction) run(ctx context.Context, src Images) (_ *ToolSet, err error) {
	if x.release.image == nil {
		return nil, errors.New("a payload from a folder has no pullspec to write into tools")
	}
	chosen, err := x.choose()
	if err != nil {
		return nil, err
	}
	set := &ToolSet{}
	x.sums = map[string]v1.Hash{}
	var components []string
	for _, t := range chosen {
		tag := x.release.References.Tag(t.component)
		if (tag == nil || tag.Kind != dockerImage) && !x.named(t) {
			set.Missing = append(set.Missing, x.name(t))
			continue
		}
		if !slices.Contains(components, t.component) {
			components = append(components, t.component)
		}
	}
	images, err := x.release.fetchComponents(ctx, src, components, x.opts.Platform, 0)
	if err != nil {
		return nil, err
	}
	if x.files, err = newImageFiles(x.opts.TempDir, MaxToolsSize); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.files.close()) }()
	for _, t := range chosen {
		x.files.want(t.path)
	}
	for _, t := range chosen {
		f := images[t.component]
		if f == nil {
			continue
		}
		file, err := x.files.find(ctx, f, t.path)
		if errors.Is(err, fs.ErrNotExist) && !x.named(t) {
			set.Missing = append(set.Missing, x.name(t))
			continue
		}
		if err == nil {
			var out Tool
			if out, err = x.write(ctx, t, file); err == nil {
				set.Tools = append(set.Tools, out)
				continue
			}
		}
		return nil, &Error{Op: "extract", Target: "component " + t.component, Err: err}
	}
	if len(set.Tools) == 0 {
		return nil, fmt.Errorf("the release has none of these tools: %w", fs.ErrNotExist)
	}
	slices.Sort(set.Missing)
	slices.SortFunc(set.Tools, func(a, b Tool) int { return strings.Compare(a.File, b.File) })
	return set, x.finish(ctx, set)
}

// choose gives the tools that are asked for.
func (x *toolExtraction) choose() ([]tool, error) {
	release := x.release.image.config.Architecture
	var out []tool
	all := tools()
	for _, command := range x.opts.Commands {
		if !slices.ContainsFunc(all, func(t tool) bool { return t.called(command) }) {
			return nil, fmt.Errorf("command %.100q is not known", command)
		}
	}
	for _, spec := range x.opts.OS {
		if !slices.ContainsFunc(all, func(t tool) bool { return t.on(spec, release) }) {
			return nil, fmt.Errorf("operating system %.100q is not known", spec)
		}
	}
	for _, t := range all {
		// The release's own architecture is in the images without one.
		if t.os == "linux" && t.arch == release && t.variant == "" {
			continue
		}
		if len(x.opts.OS) > 0 && !slices.ContainsFunc(x.opts.OS, func(spec string) bool { return t.on(spec, release) }) {
			continue
		}
		if len(x.opts.Commands) > 0 && !slices.ContainsFunc(x.opts.Commands, t.called) {
			continue
		}
		if len(x.opts.Commands) == 0 && t.onRequest {
			continue
		}
		out = append(out, t)
	}
	if len(out) == 0 {
		return nil, errors.New("no command is there for these operating systems")
	}
	return out, nil
}

func (t tool) called(command string) bool {
	if t.variant != "" {
		return command == t.command+"."+t.variant
	}
	return command == t.command
}

// on says whether the tool runs on "os" or "os/arch".
func (t tool) on(spec, release string) bool {
	name, arch, exact := strings.Cut(spec, "/")
	own := t.arch
	if own == "" {
		own = release
	}
	return spec == "*" || name == t.os && (!exact || arch == own)
}

// named tools have to be there: those asked for by command, for the release's
// own architecture or one that was asked for.
func (x *toolExtraction) named(t tool) bool {
	if !slices.ContainsFunc(x.opts.Commands, t.called) {
		return false
	}
	return t.arch == "" || slices.Contains(x.opts.OS, t.os+"/"+t.arch)
}

// name of the archive.
func (x *toolExtraction) name(t tool) string {
	ending := ".tar.gz"
	if t.os == "windows" {
		ending = ".zip"
	}
	return t.archive + "-" + x.release.Version() + ending
}

func (t tool) readme() string {
	switch t.command {
	case "oc":
		return clientReadme
	case "ccoctl":
		return ccoctlReadme
	}
	return installReadme
}

// write makes a tool's archive.
func (x *toolExtraction) write(ctx context.Context, t tool, file imageFile) (out Tool, err error) {
	work, err := os.CreateTemp(x.opts.TempDir, "payload-")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, work.Close()) }()
	if err := os.Remove(work.Name()); err != nil {
		return out, err
	}
	if _, err := io.Copy(work, readers.Context{Ctx: ctx, R: x.files.open(file)}); err != nil {
		return out, err
	}
	out = Tool{File: x.name(t), Command: t.command, OS: t.os, Arch: t.arch, Component: t.component}
	if out.Arch == "" {
		out.Arch = x.release.image.config.Architecture
	}
	if t.variant != "" {
		out.Command += "." + t.variant
	}
	size, err := x.prepare(t, work, file.size, &out)
	if err != nil {
		return out, err
	}
	program := io.NewSectionReader(work, 0, size)
	sum := sha256.New()
	err = atomicfile.Write(filepath.Join(x.dir, out.File), func(w io.Writer) error {
		count := &countWriter{w: io.MultiWriter(w, sum)}
		if t.os == "windows" {
			err = writeZip(ctx, count, t, program, file.modTime)
		} else {
			err = writeTarball(ctx, count, t, program, file.modTime)
		}
		out.Size = count.n
		return err
	})
	if err != nil {
		return out, err
	}
	out.SHA256 = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	x.sums[out.File] = out.SHA256
	return out, nil
}

// prepare writes what the release is into a program and signs it.
func (x *toolExtraction) prepare(t tool, work *os.File, size int64, out *Tool) (int64, error) {
	pullspec := x.opts.Pullspec
	if pullspec == "" {
		pullspec = x.release.Pullspec().Name()
	}
	for _, m := range t.markers {
		value := x.release.Version()
		switch m.name {
		case markerImage.name:
			value = pullspec
		case markerArchitecture.name:
			value = x.release.Platform()
		}
		found, err := m.patch(work, size, value)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", t.path, err)
		}
		if !found {
			out.Warnings = append(out.Warnings, fmt.Sprintf("%s has no place for %s", t.path, m.name))
		}
	}
	if t.os != "mac" || t.arch != "arm64" {
		return size, nil
	}
	signed, err := signMachO(work, size)
	switch {
	case errors.Is(err, errNotMachO):
		out.Warnings = append(out.Warnings, t.path+" is "+err.Error()+" and got no signature")
		return size, nil
	case err != nil:
		return 0, fmt.Errorf("%s: %w", t.path, err)
	}
	return signed, nil
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

const toolsLevel = 3 // binaries are large, and hardly smaller with more

func writeTarball(ctx context.Context, w io.Writer, t tool, program *io.SectionReader, modTime time.Time) error {
	z, err := gzip.NewWriterLevel(w, toolsLevel)
	if err != nil {
		return err
	}
	z.ModTime = noTime
	tw := tar.NewWriter(z)
	modTime = modTime.UTC().Truncate(time.Second)
	readme := t.readme()
	write := func(hdr *tar.Header, r io.Reader) error {
		hdr.ModTime, hdr.Format = modTime, tar.FormatUSTAR
		if err := tw.WriteHeader(hdr); err != nil || r == nil {
			return err
		}
		_, err := io.Copy(tw, readers.Context{Ctx: ctx, R: r})
		return err
	}
	err = errors.Join(
		write(&tar.Header{Typeflag: tar.TypeReg, Name: "README.md", Mode: 0o644, Size: int64(len(readme))}, strings.NewReader(readme)),
		write(&tar.Header{Typeflag: tar.TypeReg, Name: t.command, Mode: 0o755, Size: program.Size()}, program),
	)
	if err == nil && t.command == "oc" {
		err = write(&tar.Header{Typeflag: tar.TypeLink, Name: "kubectl", Linkname: t.command, Mode: 0o755}, nil)
	}
	return errors.Join(err, tw.Close(), z.Close())
}

func writeZip(ctx context.Context, w io.Writer, t tool, program *io.SectionReader, modTime time.Time) error {
	zw := zip.NewWriter(w)
	zw.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, toolsLevel) })
	write := func(name string, mode fs.FileMode, r io.Reader) error {
		hdr := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: modTime.UTC().Truncate(time.Second)}
		hdr.SetMode(mode)
		f, err := zw.CreateHeader(hdr)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, readers.Context{Ctx: ctx, R: r})
		return err
	}
	return errors.Join(
		write("README.md", 0o644, strings.NewReader(strings.ReplaceAll(t.readme(), "\n", "\r\n"))),
		write(t.command+".exe", 0o755, program),
		zw.Close(),
	)
}

// finish writes release.txt and the sums.
func (x *toolExtraction) finish(ctx context.Context, set *ToolSet) error {
	var text bytes.Buffer
	text.WriteString("Client tools of the release below. Their sums are in sha256sum.txt.\n\n")
	if err := x.release.WriteText(&text, &TextOptions{View: ViewPullspecs}); err != nil {
		return err
	}
	if err := writeFile(x.dir, "release.txt", text.Bytes()); err != nil {
		return err
	}
	x.sums["release.txt"] = digestOf(text.Bytes())
	set.Sums = formatSums(x.sums)
	if x.opts.Sign != nil {
		sig, err := x.opts.Sign.Sign(ctx, bytes.NewReader(set.Sums))
		if err != nil {
			return fmt.Errorf("sha256sum.txt: %w", err)
		}
		if err := writeFile(x.dir, "sha256sum.txt.asc", sig); err != nil {
			return err
		}
	}
	return writeFile(x.dir, "sha256sum.txt", set.Sums)
}

// formatSums writes sums as sha256sum does, by name, whatever folder they are
// in.
func formatSums(sums map[string]v1.Hash) []byte {
	var out bytes.Buffer
	names := make([]string, 0, len(sums))
	for name := range sums {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&out, "%s  %s\n", sums[name].Hex, name)
	}
	return out.Bytes()
}
