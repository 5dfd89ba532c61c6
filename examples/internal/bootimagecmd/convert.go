package bootimagecmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/bootimage/convert"
	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

func (c *common) convert() *cobra.Command {
	var o convert.Options
	var sizes map[string]string
	var compressor, descriptor string
	var quiet bool
	cmd := c.leaf("convert [FLAGS] FOLDER PLATFORM...", "Make the artifacts of platforms of a build's raw disk, and record them in its meta.json", "", 2, func(cmd *cobra.Command, args []string) (err error) {
		if compressor != "" && !slices.Contains(known, bootimage.Compressor(compressor)) {
			return ui.Usagef("--compressor=%s: none of gzip, zstd, xz", compressor)
		}
		if compressor != "" {
			o.Compress = &bootimage.CompressOptions{Compressor: bootimage.Compressor(compressor)}
		}
		o.Sizes = make(map[string]int64)
		for platform, text := range sizes {
			if !slices.Contains(args[1:], platform) {
				return ui.Usagef("--size of %s, which is not among the platforms", platform)
			}
			n, err := strconv.ParseInt(strings.TrimSuffix(text, "G"), 10, 33)
			if err != nil || n <= 0 || !strings.HasSuffix(text, "G") {
				return ui.Usagef("--size=%s=%s: not a size such as 100G", platform, text)
			}
			o.Sizes[platform] = n << 30
		}
		if descriptor != "" {
			text, err := os.ReadFile(descriptor)
			if err != nil {
				return ui.Next(err, "name the file of a descriptor with --ovf")
			}
			o.OVF = &disk.OVF{Template: string(text)}
		}
		root, err := os.OpenRoot(args[0])
		if err != nil {
			return ui.Next(err, "name the folder of the build, with meta.json")
		}
		defer func() { err = errors.Join(err, root.Close()) }()
		p := ui.NewProgress(cmd.ErrOrStderr(), time.Now, quiet)
		o.Progress = together(func(done, total int64) { p.Update(cmd.Name(), "", done, total, true) })
		o.Now = time.Now()
		done, err := convert.Build(cmd.Context(), root, args[1:], &o)
		p.Done()
		if err != nil {
			return convertAdvice(err)
		}
		if c.output != ui.Text {
			return ui.Write(cmd.OutOrStdout(), c.output, done, nil)
		}
		var rows [][]string
		for _, m := range done {
			stamped := "stamped"
			if m.Image.Unstamped {
				stamped = "unstamped"
			}
			rows = append(rows, []string{m.Platform, path.Join(args[0], m.Image.Path), ui.Size(m.Image.Size), stamped, "sha256:" + m.Image.SHA256})
		}
		if err := ui.Table(cmd.OutOrStdout(), rows); err != nil {
			return err
		}
		for _, m := range done {
			if m.Why != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s is not stamped: %s\n", m.Platform, m.Why)
			}
		}
		return nil
	})
	cmd.Long = cmd.Short + `.

The disk is read once whatever the number of platforms, and must be what meta.json says.
Names and formats are those of coreos-assembler's artifacts. Each is stamped for its
platform; where the disk has no boot entries that could be, it is recorded as unstamped.
What the record has already is passed over. Platforms:
  ` + ui.Wrap(disk.Platforms(), 80) + `
` + buildFolder
	flags := cmd.Flags()
	flags.StringVar(&o.From, "from", "", "`ARTIFACT` whose raw disk is converted (default: metal, or qemu where that is raw)")
	flags.StringToStringVar(&sizes, "size", nil, "`PLATFORM=100G` for a disk that is larger than its source; may be repeated")
	flags.StringVar(&compressor, "compressor", "", "`gzip|zstd|xz` to compress those with that are not compressed already; powervs takes gzip (default: none)")
	flags.StringVar(&descriptor, "ovf", "", "`FILE` with coreos-assembler's template of a descriptor, for OVAs (default: one for VMware)")
	flags.IntVar(&o.Workers, "workers", 0, "compress blocks on `N` processors, at most 8 (default: all)")
	flags.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	return cmd
}

func convertAdvice(err error) error {
	switch {
	case errors.Is(err, bootimage.ErrVerification):
		return ui.Next(&ui.VerificationError{Err: err}, "the disk is not what meta.json records; nothing was made of it")
	case errors.Is(err, errors.ErrUnsupported):
		return ui.Next(err, "okd-streams bootimage convert --help lists the platforms; coreos-assembler makes the others")
	case errors.Is(err, fs.ErrExist):
		return ui.Next(err, "another process made it; run it again for the rest")
	case errors.Is(err, fs.ErrNotExist):
		return ui.Next(err, "name the folder of the build, with meta.json and a raw disk; okd-streams bootimage uncompress makes it of a compressed one")
	}
	return ui.Next(err, "okd-streams disk probe IMAGE tells what a disk is; run it again for what is missing")
}
