package bootimagecmd

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// repacked is an artifact that was compressed or uncompressed.
type repacked struct {
	Artifact string          `json:"artifact"`
	Old      bootimage.Image `json:"old"`
	New      bootimage.Image `json:"new"`
}

const buildFolder = `
FOLDER is that of one architecture's build, with meta.json:
builds/ID/ARCHITECTURE of coreos-assembler's.`

func (c *common) compress() *cobra.Command {
	var o bootimage.CompressBuildOptions
	var compressor string
	var platforms map[string]string
	cmd := c.repack("compress [FLAGS] FOLDER", "Compress the artifacts of a build, and record both sides in its meta.json", `
As cosa compress does: names gain .gz, .zst or .xz, and artifacts that are compressed,
or marked skip-compression, stay. Several are compressed at once, with one bound of
workers and memory.
`, &o, func(cmd *cobra.Command, root *os.Root) ([]bootimage.RepackedArtifact, error) {
		o.Compress.Compressor = bootimage.Compressor(compressor)
		o.Compressors = make(map[string]bootimage.Compressor)
		for artifact, name := range platforms {
			o.Compressors[artifact] = bootimage.Compressor(name)
		}
		for _, name := range append([]bootimage.Compressor{o.Compress.Compressor}, valuesOf(o.Compressors)...) {
			if !slices.Contains(known, name) {
				return nil, ui.Usagef("--compressor=%s: none of gzip, zstd, xz", name)
			}
		}
		return bootimage.CompressBuild(cmd.Context(), root, &o)
	})
	flags := cmd.Flags()
	flags.StringVar(&compressor, "compressor", "gzip", "`gzip|zstd|xz`")
	flags.StringToStringVar(&platforms, "platform-compressor", nil, "`ARTIFACT=gzip|zstd|xz` for single artifacts; may be repeated")
	flags.IntVar(&o.Compress.Level, "level", 0, "`NUMBER` of gzip and xz 1 to 9, of zstd 1 to 22 (default: gzip 3, xz 6, zstd 10)")
	flags.IntVar(&o.Compress.Workers, "workers", 0, "`NUMBER` of processors to use (default: all, as far as --memory suffices)")
	flags.Int64Var(&o.Compress.Memory, "memory", bootimage.DefaultCompressMemory>>20, "`MEBIBYTES` that compressing may need; more let more processors work: each needs 6 for gzip, 50 for zstd, 100 for xz")
	return cmd
}

// known are the compressors that there are.
var known = []bootimage.Compressor{bootimage.CompressGzip, bootimage.CompressZstd, bootimage.CompressXZ}

func valuesOf(m map[string]bootimage.Compressor) (all []bootimage.Compressor) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func (c *common) uncompress() *cobra.Command {
	var o bootimage.CompressBuildOptions
	return c.repack("uncompress [FLAGS] FOLDER", "Uncompress the artifacts of a build, verified, and record it in its meta.json", `
Files and contents must be those that meta.json records; else all stays as it is.
`, &o, func(cmd *cobra.Command, root *os.Root) ([]bootimage.RepackedArtifact, error) {
		return bootimage.UncompressBuild(cmd.Context(), root, &o)
	})
}

// together adds up the progress of several artifacts.
func together(show func(done, total int64)) func(artifact string, done, total int64) {
	var mu sync.Mutex
	var done, total int64
	at := make(map[string]int64)
	return func(artifact string, n, of int64) {
		mu.Lock()
		defer mu.Unlock()
		before, seen := at[artifact]
		if !seen {
			total += of
		}
		at[artifact] = n
		done += n - before
		show(done, total)
	}
}

func repackAdvice(err error) error {
	_, usage := errors.AsType[*ui.UsageError](err)
	switch {
	case usage:
		return err
	case errors.Is(err, bootimage.ErrVerification):
		return ui.Next(&ui.VerificationError{Err: err}, "the file is not what meta.json records; it and its record are as they were")
	case errors.Is(err, fs.ErrNotExist):
		return ui.Next(err, "name the folder of the build, with meta.json and its files")
	}
	return ui.Next(err, "what is done is recorded; run it again for the rest")
}

// repack makes a command that works on a build's folder.
func (c *common) repack(use, short, long string, o *bootimage.CompressBuildOptions, do func(*cobra.Command, *os.Root) ([]bootimage.RepackedArtifact, error)) *cobra.Command {
	var quiet bool
	cmd := c.leaf(use, short, long, 1, func(cmd *cobra.Command, args []string) error {
		root, err := os.OpenRoot(args[0])
		if err != nil {
			return ui.Next(err, "name the folder of the build, with meta.json")
		}
		defer root.Close()
		p := ui.NewProgress(cmd.ErrOrStderr(), time.Now, quiet)
		o.Progress = together(func(done, total int64) { p.Update(cmd.Name(), "", done, total, true) })
		o.Now = time.Now()
		o.Compress.Memory <<= 20
		done, err := do(cmd, root)
		p.Done()
		if err != nil {
			return repackAdvice(err)
		}
		all := make([]repacked, 0, len(done))
		for _, a := range done {
			all = append(all, repacked(a))
		}
		if c.output != ui.Text {
			return ui.Write(cmd.OutOrStdout(), c.output, all, nil)
		}
		var rows [][]string
		for _, a := range all {
			rows = append(rows, []string{a.Artifact, path.Join(args[0], a.New.Path), ui.Size(a.Old.Size) + " -> " + ui.Size(a.New.Size), "sha256:" + a.New.SHA256})
		}
		return ui.Table(cmd.OutOrStdout(), rows)
	})
	cmd.Long = short + ".\n" + strings.TrimRight(long, "\n") + "\n" + buildFolder
	flags := cmd.Flags()
	flags.StringArrayVar(&o.Artifacts, "artifact", nil, "`ARTIFACT` to work on; may be repeated (default: all)")
	flags.IntVar(&o.Parallel, "parallel", 0, "`NUMBER` of artifacts to work on at once (default: 2)")
	flags.BoolVar(&o.Keep, "keep", false, "leave the old files beside the new ones")
	flags.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	return cmd
}
