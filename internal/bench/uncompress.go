package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/okd-project/okd-streams/bootimage"
)

// uncompressPeak is how much memory uncompressing may use, at any size.
const uncompressPeak = 200 << 20

// uncompressCases are files as build pipelines make them, and the programs that people
// uncompress them with. Ours also takes the SHA-256 of both sides.
var uncompressCases = []struct {
	what   string
	packer []string
	peer   []string
	bytes  int64 // of the content
	limits []limit
}{
	{"uncompress gzip", []string{"pigz", "-6", "-p2", "-c"}, []string{"gzip", "-d", "-c"}, 512 << 20, []limit{faster("wall", wall, 1), shown("CPU", cpu)}},
	{"uncompress gzip, pigz", []string{"pigz", "-6", "-p2", "-c"}, []string{"pigz", "-d", "-c"}, 512 << 20, []limit{faster("wall", wall, 1), shown("CPU", cpu)}},
	{"uncompress zstd", []string{"zstd", "-10", "-T2", "-q", "-c"}, []string{"zstd", "-d", "-q", "-c"}, 512 << 20, []limit{shown("wall", wall), shown("CPU", cpu)}},
	{"uncompress xz", []string{"xz", "-3", "-T2", "-c"}, []string{"xz", "-d", "-T2", "-c"}, 96 << 20, []limit{shown("wall", wall), shown("CPU", cpu)}},
}

// uncompressions uncompresses what programs made of a part of the tree's tar.
func (b *bench) uncompressions(ctx context.Context) (rows []row, err error) {
	dir, whole, err := b.tarOfTree(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, c := range uncompressCases {
		part, packed := filepath.Join(dir, "part.tar"), filepath.Join(dir, "part.packed")
		if err := cutFile(part, whole, 300<<20, c.bytes); err != nil {
			return nil, err
		}
		if _, err := toFile(ctx, packed, append(c.packer, part)); err != nil {
			return nil, err
		}
		got, err := b.each(c.what, map[string]side{
			"ours": func(round int) (map[string]cost, error) {
				took, err := measure(ctx, b.ours("uncompress", "-from", packed, "-to", b.path("ours", round)))
				return map[string]cost{"ours": took}, err
			},
			"peer": func(round int) (map[string]cost, error) {
				took, err := toFile(ctx, b.path("peer", round), append(c.peer, packed))
				return map[string]cost{"peer": took}, err
			},
		}, "ours", "peer")
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{what: c.what, ours: got["ours"], otherName: c.peer[0] + " -d", other: got["peer"], limits: c.limits, peak: uncompressPeak})
	}
	return rows, nil
}

func oursUncompress(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = bootimage.Uncompress(ctx, out, in, bootimage.Measurement{})
	return errors.Join(err, out.Close())
}
