package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/ext4"
	"github.com/okd-project/okd-streams/internal/xfs"
)

// StampOptions are options of [Stamp]; nil and the zero value are good.
type StampOptions struct {
	// Arch is the architecture of the machines, in the spelling of RPM. Default: what
	// the type of the disk's root partition says.
	Arch string
	// KernelArguments are put behind those of the platform.
	KernelArguments []string
	// KeepGRUB leaves GRUB's configuration as it is.
	KeepGRUB bool
}

// Stamped is a disk for a platform: how it differs from the disk that it was made
// of.
type Stamped struct {
	Platform string `json:"platform"`
	// Was is the platform that the disk was for, "" for none.
	Was             string   `json:"was,omitempty"`
	Arch            string   `json:"arch,omitempty"`
	KernelArguments []string `json:"kernelArguments"` // of the boot entry, as they are now
	// Files are those that changed, by their path on the boot file system; there are
	// none where the disk is for the platform already.
	Files []string `json:"files"`

	steps [][]patch
}

// patch is bytes and where on the disk they go.
type patch struct {
	offset int64
	data   []byte
}

// xbootldr is the type of the partition that has the boot loader's entries.
const xbootldr = "BC13C2FF-59E6-4262-A352-B275FD6F7172"

// maxBootEntries is how many boot entries a disk may have; new ones have one.
const maxBootEntries = 64

var errNoSettings = errors.New("no place for the console's settings")

// Stamp makes the raw disk of size bytes one for a platform: in its boot loader
// entries ignition.platform.id and the console's arguments become those of the
// platform, in GRUB's console.cfg (or grub.cfg) the console's commands; a console.cfg
// that grub.cfg reads and that is not there is made. Both are from one table: that of
// the disk, where it has coreos/platforms.json, or else the one of [Platforms]. Nothing
// is written: the result can be laid over the disk ([Stamped.Over]) or written to it
// ([Stamped.Apply]).
//
// The boot file system is the ext4 of the GPT partition boot, or the whole disk. An
// error wraps
//
//   - [io/fs.ErrNotExist] where there is no boot entry,
//   - [io/fs.ErrInvalid] for kernel arguments that cannot be in one,
//   - [ErrCorrupt] for a disk or file system that contradicts itself,
//   - [errors.ErrUnsupported] for a platform that is not known, a file system that was
//     not unmounted cleanly or has features that are not known, and for s390x: its boot
//     loader reads no boot entry, but blocks that zipl noted in a map on the disk, with
//     a copy of the kernel's arguments among them, which only zipl writes.
func Stamp(ctx context.Context, r io.ReaderAt, size int64, platform string, opts *StampOptions) (*Stamped, error) {
	var o StampOptions
	if opts != nil {
		o = *opts
	}
	fail := func(err error) (*Stamped, error) { return nil, &Error{Op: "stamp", Target: platform, Err: err} }
	if err := checkArguments(o.KernelArguments); err != nil {
		return fail(fmt.Errorf("%w: %w", err, fs.ErrInvalid))
	}
	b, err := findBoot(ctx, r, size)
	if err != nil {
		return fail(err)
	}
	if o.Arch == "" {
		o.Arch = b.arch
	}
	s := &Stamped{Platform: platform, Arch: o.Arch, Files: []string{}}
	if err := s.write(b, &o); err != nil {
		return fail(err)
	}
	for _, step := range b.fs.Steps() {
		var patches []patch
		for _, p := range step {
			patches = append(patches, patch{b.offset + p.Offset, p.Data})
		}
		s.steps = append(s.steps, patches)
	}
	return s, nil
}

// PlatformOf tells what platform a raw disk of size bytes is for, "" for none.
// Errors are those of [Stamp].
func PlatformOf(ctx context.Context, r io.ReaderAt, size int64) (string, error) {
	platform := ""
	b, err := findBoot(ctx, r, size)
	if err == nil {
		var entry []byte
		if entry, err = b.fs.ReadFile(b.entries[0]); err == nil {
			platform = platformIn(optionsOf(string(entry)))
		}
	}
	if err != nil {
		return "", &Error{Op: "read", Target: "platform", Err: corrupt(err)}
	}
	return platform, nil
}

// boot is the boot file system of a disk.
type boot struct {
	fs      *ext4.FS
	offset  int64
	arch    string
	root    string   // the folder that holds loader and grub2
	entries []string // paths of boot entries
}

// findBoot looks for the file system with boot entries: in partitions named boot
// or of the type for them, then in the others, or else the disk is one.
func findBoot(ctx context.Context, r io.ReaderAt, size int64) (*boot, error) {
	table, err := partitions(&source{ctx, r, size})
	if errors.Is(err, fs.ErrNotExist) && ext4.Probe(r) {
		return openBoot(&source{ctx, r, size}, Partition{Size: size})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no partition table and no ext4 file system: %w", err)
	}
	if err != nil {
		return nil, err
	}
	arch := ""
	named := func(p Partition) int {
		if p.Name == "boot" || p.Type == xbootldr {
			return 0
		}
		return 1
	}
	for _, p := range table.Partitions {
		if is, ok := rootTypes[p.Type]; ok {
			arch = is
		}
	}
	slices.SortStableFunc(table.Partitions, func(a, b Partition) int { return named(a) - named(b) })
	for _, p := range table.Partitions {
		if !ext4.Probe(io.NewSectionReader(r, p.Start, p.Size)) {
			continue
		}
		b, err := openBoot(&source{ctx, r, size}, p)
		if errors.Is(err, fs.ErrNotExist) || err != nil && named(p) > 0 && !errors.Is(err, ctx.Err()) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
		b.arch = arch
		return b, nil
	}
	return nil, fmt.Errorf("no ext4 file system with loader/entries: %w", fs.ErrNotExist)
}

// openBoot opens the file system of a partition and lists its entries.
func openBoot(s *source, p Partition) (*boot, error) {
	in := &partReader{s, p.Start, p.Size}
	f, err := ext4.Open(in, p.Size)
	if err != nil {
		return nil, corrupt(err)
	}
	b := &boot{fs: f, offset: p.Start}
	for _, root := range []string{"/", "/boot"} {
		dir := path.Join(root, "loader/entries")
		names, err := f.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, corrupt(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".conf") {
				b.entries = append(b.entries, path.Join(dir, name))
			}
		}
		if len(b.entries) > maxBootEntries {
			return nil, fmt.Errorf("%d boot entries, more than %d: %w", len(b.entries), maxBootEntries, errors.ErrUnsupported)
		}
		if len(b.entries) > 0 {
			b.root = root
			return b, nil
		}
	}
	return nil, fmt.Errorf("no boot entry in loader/entries: %w", fs.ErrNotExist)
}

// corrupt makes the damage of a file system one of a disk.
func corrupt(err error) error {
	if (errors.Is(err, ext4.ErrCorrupt) || errors.Is(err, xfs.ErrCorrupt)) && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("%w: %w", err, ErrCorrupt)
	}
	return err
}

// partReader reads a part of a disk and is cancelled with the disk's context.
type partReader struct {
	s           *source
	start, size int64
}

func (p *partReader) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off > p.size || int64(len(b)) > p.size-off {
		return 0, io.ErrUnexpectedEOF
	}
	if err := p.s.read(b, p.start+off); err != nil {
		return 0, err
	}
	return len(b), nil
}

// write changes the files.
func (s *Stamped) write(b *boot, o *StampOptions) error {
	table, err := s.table(b)
	if err != nil {
		return err
	}
	console := table[s.Platform]
	if s.Arch == "s390x" {
		return fmt.Errorf("s390x boots a copy of the entry that zipl wrote, which only zipl can renew: %w", errors.ErrUnsupported)
	}
	for i, name := range b.entries {
		data, err := b.fs.ReadFile(name)
		if err != nil {
			return corrupt(err)
		}
		entry := string(data)
		was := platformIn(optionsOf(entry))
		now := restamp(entry, s.Platform, table[was].Kernel, append(slices.Clone(console.Kernel), o.KernelArguments...))
		if i == 0 {
			s.Was, s.KernelArguments = was, optionsOf(now)
		}
		if err := s.replace(b, name, entry, now); err != nil {
			return err
		}
	}
	if o.KeepGRUB {
		return nil
	}
	return s.writeGRUB(b, console.GRUB)
}

// table gives the consoles of platforms; it has the platform, or it is known.
func (s *Stamped) table(b *boot) (map[string]console, error) {
	table := consoles[s.Arch]
	name := path.Join(b.root, "coreos/platforms.json")
	data, err := b.fs.ReadFile(name)
	switch {
	case err == nil:
		if table, err = decodeConsoles(data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if _, ok := table[s.Platform]; ok {
			return table, nil
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, corrupt(err)
	case s.Arch == "":
		return nil, fmt.Errorf("the disk does not say what architecture it is of: %w", errors.ErrUnsupported)
	}
	if !slices.Contains(platformIDs, s.Platform) {
		return nil, fmt.Errorf("platform %.80q; there are %s: %w", s.Platform, strings.Join(platformIDs, ", "), errors.ErrUnsupported)
	}
	return table, nil
}

// writeGRUB puts commands into console.cfg, or else grub.cfg. Machines without
// GRUB have none of both.
func (s *Stamped) writeGRUB(b *boot, commands []string) error {
	dir := path.Join(b.root, "grub2")
	for _, file := range []string{"console.cfg", "grub.cfg"} {
		name := path.Join(dir, file)
		data, err := b.fs.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return corrupt(err)
		}
		now, err := resettle(string(data), commands)
		if errors.Is(err, errNoSettings) && len(commands) == 0 {
			return nil
		}
		if errors.Is(err, errNoSettings) && file == "grub.cfg" && strings.Contains(string(data), "console.cfg") {
			return s.createConsole(b, dir, commands)
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %w", name, err, errors.ErrUnsupported)
		}
		return s.replace(b, name, string(data), now)
	}
	if _, err := b.fs.ReadDir(dir); len(commands) > 0 && err == nil {
		return fmt.Errorf("%s: neither console.cfg nor grub.cfg: %w: %w", dir, errNoSettings, errors.ErrUnsupported)
	}
	return nil
}

// createConsole makes the file that grub.cfg reads where there is one, as osbuild
// makes it.
func (s *Stamped) createConsole(b *boot, dir string, commands []string) error {
	name := path.Join(dir, "console.cfg")
	text := "# Any non-default console settings will be inserted here.\n" + settingsStart + strings.Join(commands, "\n") + "\n" + settingsEnd
	if err := b.fs.CreateFile(name, "grub.cfg", []byte(text)); err != nil {
		return corrupt(err)
	}
	s.Files = append(s.Files, name)
	return nil
}

func (s *Stamped) replace(b *boot, name, was, now string) error {
	if was == now {
		return nil
	}
	if err := b.fs.WriteFile(name, []byte(now)); err != nil {
		return corrupt(err)
	}
	s.Files = append(s.Files, name)
	return nil
}

// Apply writes the changes to the disk that they were made for. What must be
// there first is synced first: whenever it is interrupted, boot entries are the old
// ones or the new ones, and e2fsck repairs the rest.
func (s *Stamped) Apply(ctx context.Context, w interface {
	io.WriterAt
	Sync() error
}) error {
	for _, step := range s.steps {
		if err := ctx.Err(); err != nil {
			return &Error{Op: "stamp", Target: s.Platform, Err: err}
		}
		for _, p := range step {
			if _, err := w.WriteAt(p.data, p.offset); err != nil {
				return &Error{Op: "stamp", Target: s.Platform, Err: err}
			}
		}
		if err := w.Sync(); err != nil {
			return &Error{Op: "stamp", Target: s.Platform, Err: err}
		}
	}
	return nil
}

// Over gives the changed disk, of r, the disk that the changes were made for, which
// stays as it is. It may be read by several goroutines if r may.
func (s *Stamped) Over(r io.ReaderAt) io.ReaderAt { return &stampedReader{r, s.steps} }

type stampedReader struct {
	r     io.ReaderAt
	steps [][]patch
}

func (r *stampedReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.r.ReadAt(p, off)
	overlay(p[:n], off, r.steps)
	return n, err
}

// overlay changes the bytes of a disk from an offset on.
func overlay(b []byte, off int64, steps [][]patch) {
	for _, step := range steps {
		for _, p := range step {
			from, to := max(off, p.offset), min(off+int64(len(b)), p.offset+int64(len(p.data)))
			if from < to {
				copy(b[from-off:to-off], p.data[from-p.offset:])
			}
		}
	}
}

// overlaps reports whether there is something to change in n bytes from an offset on.
func overlaps(off, n int64, steps [][]patch) bool {
	for _, step := range steps {
		for _, p := range step {
			if p.offset < off+n && off < p.offset+int64(len(p.data)) {
				return true
			}
		}
	}
	return false
}
