// Package diskcmd is the command `okd-streams disk`: what a disk image is, and images
// for all platforms of one disk.
package diskcmd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// common is what the commands share.
type common struct{ output string }

// Command gives the command with all that is below it.
func Command() *cobra.Command {
	c := &common{}
	root := &cobra.Command{
		Use:   "disk",
		Short: "Look into disk images, convert disks, and stamp them for platforms",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return explain(cmd, ui.Usagef("unknown command %q for %q", args[0], cmd.CommandPath()))
			}
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return explain(cmd, &ui.UsageError{Err: err}) })
	ui.AddOutput(root.PersistentFlags())
	root.AddCommand(c.probe(), c.convert(), c.stamp())
	return root
}

// leaf makes a command of at least so many arguments whose errors say what to do next.
func (c *common) leaf(use, short, long string, args int, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + ".\n" + long, DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) < args || args == 1 && len(given) > 1 {
				return explain(cmd, ui.WrongArguments(cmd, given))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.output = ui.Format(cmd)
			return explain(cmd, run(cmd, args))
		},
	}
}

// explain gives every error an advice.
func explain(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*ui.AdviceError](err); ok {
		return err
	}
	advice := "okd-streams disk probe IMAGE tells what an image is"
	switch _, usage := errors.AsType[*ui.UsageError](err); {
	case usage:
		advice = cmd.CommandPath() + " --help shows what there is"
	case errors.Is(err, disk.ErrCorrupt):
		err = &ui.VerificationError{Err: err}
		advice = "fetch or make the image again: its header does not fit its bytes"
	case errors.Is(err, errors.ErrUnsupported):
		advice = "unpack the image, or have qemu-img convert it to raw, and take that"
	case errors.Is(err, fs.ErrExist):
		advice = "wait for the other conversion, or name another file"
	case ui.Advice(err) != "":
		advice = ui.Advice(err)
	case errors.Is(err, fs.ErrNotExist):
		if _, file := errors.AsType[*fs.PathError](err); file {
			advice = "check the name and where it is looked for"
		}
	}
	return ui.Next(err, advice)
}

// open opens the file of an image and says how large it is.
func open(path string) (*os.File, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	// A block device says its size at its end, a folder has none.
	size, err := file.Seek(0, io.SeekEnd)
	if info, statErr := file.Stat(); err != nil || statErr != nil || info.IsDir() {
		return nil, 0, errors.Join(&fs.PathError{Op: "read", Path: path, Err: syscall.EISDIR}, err, statErr, file.Close())
	}
	return file, size, nil
}

func (c *common) probe() *cobra.Command {
	return c.leaf("probe [FLAGS] IMAGE", "Say what an image is: its format, its size, its partitions", `
Images that lead to other files are refused. What is wrong without keeping the image
from being read is said with exit code 3.
`, 1, func(cmd *cobra.Command, args []string) error {
		file, size, err := open(args[0])
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := disk.Probe(cmd.Context(), file, size)
		if err != nil {
			return err
		}
		if err := printInfo(cmd.OutOrStdout(), c.output, info); err != nil {
			return err
		}
		faults := info.Faults
		if info.Table != nil {
			faults = append(faults, info.Table.Faults...)
		}
		if len(faults) == 0 {
			return nil
		}
		return ui.Next(&ui.VerificationError{Err: errors.New(strings.Join(faults, "\n  "))}, "sgdisk -e moves a backup table to the end of a disk that has grown; else make the image again")
	})
}

func printInfo(w io.Writer, output string, info *disk.Info) error {
	if output != ui.Text {
		return ui.Write(w, output, info, nil)
	}
	rows := [][]string{{"format", string(info.Format)}, {"file", fmt.Sprintf("%d (%s)", info.Size, ui.Size(info.Size))}, {"disk", fmt.Sprintf("%d (%s)", info.VirtualSize, ui.Size(info.VirtualSize))}}
	if info.BlockSize > 0 {
		rows = append(rows, []string{"blocks", ui.Size(info.BlockSize)})
	}
	if len(info.Features) > 0 {
		rows = append(rows, []string{"features", strings.Join(info.Features, ", ")})
	}
	if info.Label != "" {
		rows = append(rows, []string{"label", fmt.Sprintf("%q", info.Label)})
	}
	if info.Table != nil {
		rows = append(rows, []string{"partitions", fmt.Sprintf("%s, sectors of %d bytes", info.Table.Kind, info.Table.SectorSize)})
	}
	if err := ui.Table(w, rows); err != nil {
		return err
	}
	if len(info.Files) > 0 {
		rows = [][]string{{"FILE", "SIZE"}}
		for _, f := range info.Files {
			rows = append(rows, []string{fmt.Sprintf("%q", f.Name), ui.Size(f.Size)})
		}
		return ui.Table(w, rows)
	}
	if info.Table == nil {
		return nil
	}
	rows = [][]string{{"NUMBER", "START", "SIZE", "TYPE", "NAME"}}
	for _, p := range info.Table.Partitions {
		rows = append(rows, []string{fmt.Sprint(p.Number), fmt.Sprint(p.Start), ui.Size(p.Size), p.Type, fmt.Sprintf("%q", p.Name)})
	}
	return ui.Table(w, rows)
}
