package diskcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

func (c *common) convert() *cobra.Command {
	var dir, format string
	var workers int
	var quiet, noSync, noHash bool
	cmd := c.leaf("convert [FLAGS] IMAGE TARGET...", "Make images of a disk for any number of platforms, while it is read once", `
A TARGET is FORMAT:FILE or platform=PLATFORM:FILE, with options behind commas:
  qcow2:coreos.qcow2                             as the disk is
  qcow2,compression=zlib:coreos-small.qcow2      clusters compressed with zlib or zstd
  platform=aws:coreos-aws.vmdk                   stamped for AWS, in the format of AWS
  platform=ibmcloud,size=100G:coreos-ibm.qcow2   with a larger disk
  ova,ovf=vmware.xml:coreos.ova                  with coreos-assembler's template of a descriptor
Formats: raw, qcow2, vmdk, vhd, vhdx, ova, powervs, gcp, kubevirt. Other options: sectors=4096 of
vhdx; arch=ARCHITECTURE of kubevirt and of stamps. All files appear when all are whole.
`, 2, func(cmd *cobra.Command, args []string) (err error) {
		file, size, err := open(args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		image, err := disk.Open(cmd.Context(), file, size, &disk.OpenOptions{Format: disk.Format(format)})
		if err != nil {
			return err
		}
		var targets []disk.Target
		for _, arg := range args[1:] {
			t, err := target(cmd.Context(), image, arg)
			if err != nil {
				return err
			}
			targets = append(targets, *t)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return ui.Next(err, "make the folder, or name another with --dir")
		}
		defer func() { err = errors.Join(err, root.Close()) }()
		progress := ui.NewProgress(cmd.ErrOrStderr(), time.Now, quiet)
		results, err := disk.Convert(cmd.Context(), root, image, targets, &disk.ConvertOptions{
			Workers: workers, Hash: !noHash, NoSync: noSync,
			Progress: func(done, total int64) { progress.Update("convert", "", done, total, true) },
		})
		progress.Done()
		if err != nil {
			return err
		}
		return printResults(cmd.OutOrStdout(), c.output, results)
	})
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", ".", "`FOLDER` that files go to")
	flags.StringVarP(&format, "format", "f", "", "`FORMAT` that the image must have; say raw where it is known: the bytes of a raw disk may look like another format (default: what it is)")
	flags.IntVar(&workers, "workers", 0, "compress on `N` processors (default: all)")
	flags.BoolVar(&noSync, "no-sync", false, "do not wait for files to reach the disk")
	flags.BoolVar(&noHash, "no-hash", false, "do not take SHA-256 of the files")
	flags.BoolVarP(&quiet, "quiet", "q", false, "no progress")
	return cmd
}

// target reads a target's text, and stamps.
func target(ctx context.Context, image *disk.Image, arg string) (*disk.Target, error) {
	options, name, ok := strings.Cut(arg, ":")
	if !ok || name == "" {
		return nil, ui.Usagef("%q is not FORMAT:FILE", arg)
	}
	var t disk.Target
	var platform string
	for option := range strings.SplitSeq(options, ",") {
		key, value, ok := strings.Cut(option, "=")
		if !ok {
			if t.Format != "" {
				return nil, ui.Usagef("%q has two formats", arg)
			}
			t.Format = disk.Format(option)
			continue
		}
		var err error
		switch key {
		case "platform":
			platform = value
		case "compression":
			t.Compression = value
		case "arch":
			t.Architecture = value
		case "size":
			t.Size, err = bytesOf(value)
		case "sectors":
			t.SectorSize, err = strconv.ParseInt(value, 10, 64)
		case "ovf":
			var text []byte
			text, err = os.ReadFile(value)
			t.OVF = &disk.OVF{Template: string(text)}
		default:
			err = errors.New("no such option")
		}
		if err != nil {
			return nil, ui.Usagef("%q: %s: %w", arg, option, err)
		}
	}
	t.Name = name
	if platform == "" {
		return &t, nil
	}
	if t.Format == "" {
		own, err := disk.TargetFor(platform)
		if err != nil {
			return nil, ui.Next(err, "coreos-assembler makes it; raw,platform="+platform+":FILE makes the raw disk alone")
		}
		t.Format = own.Format
		if t.Compression == "" {
			t.Compression = own.Compression
		}
	}
	var err error
	t.Stamp, err = disk.Stamp(ctx, image, image.Size(), platform, &disk.StampOptions{Arch: t.Architecture})
	return &t, err
}

// bytesOf reads a size with K, M, G or T.
func bytesOf(text string) (int64, error) {
	number := strings.TrimRight(text, "KMGT")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || len(text)-len(number) > 1 || n < 0 {
		return 0, errors.New("not a size such as 100G")
	}
	if unit := text[len(number):]; unit != "" {
		shift := 10 * (1 + strings.Index("KMGT", unit))
		if n > 1<<62>>shift {
			return 0, errors.New("too large")
		}
		n <<= shift
	}
	return n, nil
}

func printResults(w io.Writer, output string, results []disk.Result) error {
	if output != ui.Text {
		return ui.Write(w, output, results, nil)
	}
	rows := [][]string{{"FILE", "FORMAT", "PLATFORM", "SIZE", "DISK", "SHA256"}}
	for _, r := range results {
		platform, sum := r.Platform, r.SHA256
		if platform == "" {
			platform = "unstamped"
		}
		if sum == "" {
			sum = "-"
		}
		rows = append(rows, []string{fmt.Sprint(r.Name), string(r.Format), platform, ui.Size(r.Size), ui.Size(r.VirtualSize), sum})
	}
	return ui.Table(w, rows)
}
