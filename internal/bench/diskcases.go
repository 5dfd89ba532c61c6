package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/okd-project/okd-streams/bootimage/disk"
)

// diskPeak is how much memory a conversion may use at any size.
const diskPeak = 200 << 20

// largeDisk is the size of a disk that is nearly all holes, bytes.
const largeDisk = 4 << 40

// diskKinds are what a raw disk is converted to on both sides.
var diskKinds = []struct {
	what   string
	target disk.Target
	qemu   []string // arguments behind convert -f raw
	large  bool     // of the large disk
	limits []limit
}{
	{"raw to qcow2", disk.Target{Format: disk.QCOW2}, []string{"-O", "qcow2"}, false, []limit{faster("wall", wall, 1), shown("CPU", cpu)}},
	{"raw to qcow2, 4 TiB", disk.Target{Format: disk.QCOW2}, []string{"-O", "qcow2"}, true, []limit{shown("wall", wall), shown("CPU", cpu)}},
	{"raw to qcow2, zlib", disk.Target{Format: disk.QCOW2, Compression: "zlib"}, []string{"-c", "-O", "qcow2"}, false, []limit{faster("wall", wall, 4), shown("CPU", cpu), atMost("size", size, 1.03)}},
	{"raw to qcow2, zstd", disk.Target{Format: disk.QCOW2, Compression: "zstd"}, []string{"-c", "-O", "qcow2", "-o", "compression_type=zstd"}, false, []limit{shown("wall", wall), shown("CPU", cpu), atMost("size", size, 1.03)}},
	{"raw to vmdk, streamOptimized", disk.Target{Format: disk.VMDK}, []string{"-O", "vmdk", "-o", "subformat=streamOptimized"}, false, []limit{faster("wall", wall, 4), shown("CPU", cpu), atMost("size", size, 1.03)}},
	{"raw to vhd, fixed", disk.Target{Format: disk.VHD}, []string{"-O", "vpc", "-o", "subformat=fixed,force_size=on"}, false, []limit{shown("wall", wall), shown("CPU", cpu)}},
	{"raw to vhdx", disk.Target{Format: disk.VHDX}, []string{"-O", "vhdx"}, false, []limit{shown("wall", wall), shown("CPU", cpu)}},
}

// disks is converting a raw disk with a part of the tree on it, beside qemu-img: to one
// format at a time, and to all of them at once, which qemu-img does one by one.
func (b *bench) disks(ctx context.Context) (rows []row, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(b.work), "bench-disk-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	raw, large := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "large.raw")
	if err := b.makeDisk(ctx, raw); err != nil {
		return nil, err
	}
	if err := copyDisk(ctx, raw, large); err != nil {
		return nil, err
	}
	source := map[bool]string{false: raw, true: large}
	sized := func(costs map[string]cost, what, path string, c cost) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		c.size = info.Size()
		costs[what] = c
		return os.Remove(path)
	}
	const all = "all at once"
	got, err := b.each("convert", map[string]side{
		"ours": func(round int) (map[string]cost, error) {
			costs := make(map[string]cost)
			dir := b.path("ours", round)
			if err := os.Mkdir(dir, 0o700); err != nil {
				return nil, err
			}
			var targets []string
			for _, k := range diskKinds {
				target := string(k.target.Format) + "," + k.target.Compression
				c, err := measure(ctx, b.ours("convert", "-from", source[k.large], "-to", dir, target))
				if err != nil {
					return nil, err
				}
				if err := sized(costs, k.what, filepath.Join(dir, "0"), c); err != nil {
					return nil, err
				}
				if !k.large {
					targets = append(targets, target)
				}
			}
			c, err := measure(ctx, b.ours(append([]string{"convert", "-from", raw, "-to", dir}, targets...)...))
			costs[all] = c
			return costs, err
		},
		"qemu-img": func(round int) (map[string]cost, error) {
			costs := make(map[string]cost)
			var sum cost
			for _, k := range diskKinds {
				to := b.path("qemu", round)
				args := append(append([]string{"convert", "-f", "raw"}, k.qemu...), source[k.large], to)
				c, err := measure(ctx, exec.Command("qemu-img", args...))
				if err != nil {
					return nil, err
				}
				if !k.large {
					sum = cost{cpu: sum.cpu + c.cpu, wall: sum.wall + c.wall, peak: max(sum.peak, c.peak)}
				}
				if err := sized(costs, "peer "+k.what, to, c); err != nil {
					return nil, err
				}
			}
			costs["peer "+all] = sum
			return costs, nil
		},
	}, "ours", "qemu-img")
	if err != nil {
		return nil, err
	}
	for _, k := range diskKinds {
		rows = append(rows, row{what: k.what, ours: got[k.what], otherName: "qemu-img", other: got["peer "+k.what], limits: k.limits, peak: diskPeak})
	}
	return append(rows, row{
		what: "raw to all six of them", ours: got[all], otherName: "qemu-img, six times", other: got["peer "+all],
		limits: []limit{shown("wall", wall), shown("CPU", cpu)}, peak: diskPeak,
	}), nil
}

// makeDisk makes a disk whose second partition is an ext4 with libraries of the tree, and
// mostly free.
func (b *bench) makeDisk(ctx context.Context, path string) error {
	const start, size = 18, 640 // MiB
	from := filepath.Join(b.tree, "usr", "lib", "x86_64-linux-gnu")
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		from = filepath.Join(b.tree, "usr", "bin")
	}
	for _, args := range [][]string{
		{"truncate", "-s", fmt.Sprint(size, "M"), path},
		{"sgdisk", "-n1:2048:+16M", "-t1:EF00", "-c1:EFI-SYSTEM", fmt.Sprintf("-n2:%dM:0", start), "-c2:root", path},
		{"mke2fs", "-q", "-t", "ext4", "-E", fmt.Sprintf("offset=%d", start<<20), "-d", from, path, fmt.Sprint(size-start-1, "M")},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", args, err, out)
		}
	}
	return nil
}

// copyDisk copies a disk to the start of a large one.
func copyDisk(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w\n%s", err, out)
	}
	return os.Truncate(to, largeDisk)
}

// oursConvert converts a raw disk. Arguments are a format with a comma and a
// compression each.
func oursConvert(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("convert", flag.ContinueOnError)
	from := flags.String("from", "", "raw disk")
	to := flags.String("to", "", "folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	file, err := os.Open(*from)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	image, err := disk.Open(ctx, file, info.Size(), &disk.OpenOptions{Format: disk.Raw})
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(*to)
	if err != nil {
		return err
	}
	defer root.Close()
	var targets []disk.Target
	for i, arg := range flags.Args() {
		format, compression, _ := strings.Cut(arg, ",")
		targets = append(targets, disk.Target{Name: fmt.Sprint(i), Format: disk.Format(format), Compression: compression})
	}
	_, err = disk.Convert(ctx, root, image, targets, &disk.ConvertOptions{NoSync: true})
	return err
}
