package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/okd-project/okd-streams/bootimage"
)

// compressPeak is how much memory compressing may use, at any size.
const compressPeak = 200 << 20

// compressCases are formats beside the programs that people have for them, with
// how much of the tree's tar both read.
var compressCases = []struct {
	what   string
	format bootimage.Compressor
	level  string
	peer   []string
	bytes  int64
	limits []limit
}{
	{"compress gzip", bootimage.CompressGzip, "0", []string{"pigz", "-6", "-p2", "-c"}, 512 << 20, []limit{faster("CPU", cpu, 3), shown("wall", wall), atMost("size", size, 1.03)}},
	{"compress zstd", bootimage.CompressZstd, "0", []string{"zstd", "-10", "-T2", "-q", "-c"}, 512 << 20, []limit{faster("CPU", cpu, 1), shown("wall", wall), atMost("size", size, 1.001)}},
	{"compress zstd, level 6", bootimage.CompressZstd, "6", []string{"zstd", "-10", "-T2", "-q", "-c"}, 512 << 20, []limit{shown("CPU", cpu), shown("wall", wall), atMost("size", size, 1.03)}},
	// At most 2.6 times the processor time.
	{"compress xz", bootimage.CompressXZ, "0", []string{"xz", "-6", "-T2", "-c"}, 192 << 20, []limit{faster("CPU", cpu, 1/2.6), shown("wall", wall), atMost("size", size, 1.03)}},
}

// compressions compresses a part of the tree's tar from its midst, where there
// are programs, libraries and text.
func (b *bench) compressions(ctx context.Context) (rows []row, err error) {
	dir, whole, err := b.tarOfTree(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, c := range compressCases {
		part := filepath.Join(dir, c.what+".tar")
		if err := cutFile(part, whole, 300<<20, c.bytes); err != nil {
			return nil, err
		}
		got, err := b.each(c.what, map[string]side{
			"ours": func(round int) (map[string]cost, error) {
				out := b.path("ours", round)
				took, err := measure(ctx, b.ours("compress", "-compressor", string(c.format), "-level", c.level, "-from", part, "-to", out))
				return sizedCost("ours", took, out, err)
			},
			"peer": func(round int) (map[string]cost, error) {
				out := b.path("peer", round)
				took, err := toFile(ctx, out, append(c.peer, part))
				return sizedCost("peer", took, out, err)
			},
		}, "ours", "peer")
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{what: c.what, ours: got["ours"], otherName: c.peer[0] + " " + c.peer[1], other: got["peer"], limits: c.limits, peak: compressPeak})
	}
	return rows, nil
}

// tarOfTree makes a tar file of the tree in a new folder.
func (b *bench) tarOfTree(ctx context.Context) (dir, file string, err error) {
	if dir, err = os.MkdirTemp(filepath.Dir(b.work), "bench-source-"); err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, "tree.tar")
	if _, err := measure(ctx, exec.Command("tar", "-C", b.tree, "--sort=name", "-cf", file, ".")); err != nil {
		return "", "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, file, nil
}

// toFile runs a program that writes a file to its output.
func toFile(ctx context.Context, path string, args []string) (cost, error) {
	out, err := os.Create(path)
	if err != nil {
		return cost{}, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout = out
	took, err := measure(ctx, cmd)
	return took, errors.Join(err, out.Close())
}

// sizedCost adds the size of the file that was made.
func sizedCost(name string, c cost, path string, err error) (map[string]cost, error) {
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	c.size = info.Size()
	return map[string]cost{name: c}, nil
}

// cutFile copies n bytes from an offset, or what there is of them.
func cutFile(to, from string, offset, n int64) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	offset = max(min(offset, info.Size()-n), 0) // a small tree
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(in, offset, n))
	return errors.Join(err, out.Close())
}

func oursCompress(ctx context.Context, compressor string, level int, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = bootimage.Compress(ctx, out, in, &bootimage.CompressOptions{Compressor: bootimage.Compressor(compressor), Level: level, Workers: 2})
	return errors.Join(err, out.Close())
}
