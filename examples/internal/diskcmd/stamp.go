package diskcmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

func (c *common) stamp() *cobra.Command {
	var o disk.StampOptions
	var format string
	var dryRun bool
	cmd := c.leaf("stamp [FLAGS] IMAGE [PLATFORM]", "Make a raw disk one for a platform, in place, or say what platform an image is for", `
In the boot entries of the ext4 file system for /boot, ignition.platform.id and the
console's arguments become those of the platform; in GRUB's configuration, the
console's commands. It needs no root and mounts nothing. Platforms:
  `+ui.Wrap(disk.Platforms(), 80)+`
A disk with coreos/platforms.json on its boot file system is stamped by that table.
To make images for several platforms of one disk, see okd-streams disk convert.
`, 0, func(cmd *cobra.Command, args []string) (err error) {
		if len(args) != 1 && len(args) != 2 {
			return ui.WrongArguments(cmd, args)
		}
		open := open
		if len(args) == 2 && !dryRun {
			open = openToWrite
		}
		file, size, err := open(args[0])
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		image, err := disk.Open(cmd.Context(), file, size, &disk.OpenOptions{Format: disk.Format(format)})
		if err != nil {
			return err
		}
		if len(args) == 1 {
			platform, err := disk.PlatformOf(cmd.Context(), image, image.Size())
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return printPlatform(cmd.OutOrStdout(), c.output, platform)
		}
		if image.Format() != disk.Raw {
			return ui.Next(ui.Usagef("%s is %s: only raw disks are stamped in place", args[0], image.Format()), "okd-streams disk convert "+args[0]+" platform="+args[1]+":FILE makes a new image")
		}
		s, err := disk.Stamp(cmd.Context(), file, size, args[1], &o)
		if err != nil {
			return stampAdvice(err)
		}
		if !dryRun {
			if err := s.Apply(cmd.Context(), file); err != nil {
				return err
			}
		}
		return printStamped(cmd.OutOrStdout(), c.output, s)
	})
	flags := cmd.Flags()
	flags.StringVar(&o.Arch, "arch", "", "`ARCHITECTURE` of the machines, such as x86_64 (default: what the root partition says)")
	flags.StringArrayVar(&o.KernelArguments, "karg", nil, "`ARGUMENT` to put behind those of the platform; may be repeated")
	flags.BoolVar(&o.KeepGRUB, "keep-grub", false, "leave GRUB's configuration as it is")
	flags.StringVarP(&format, "format", "f", "", "`FORMAT` that the image must have; say raw where it is known (default: what it is)")
	flags.BoolVar(&dryRun, "dry-run", false, "say what would change, and write nothing")
	return cmd
}

// openToWrite is open for a file that is changed.
func openToWrite(path string) (*os.File, int64, error) {
	file, size, err := open(path)
	if err != nil {
		return nil, 0, err
	}
	if err := file.Close(); err != nil {
		return nil, 0, err
	}
	file, err = os.OpenFile(path, os.O_RDWR, 0)
	return file, size, err
}

// stampAdvice says what to do where a disk cannot be stamped.
func stampAdvice(err error) error {
	switch text := err.Error(); {
	case strings.Contains(text, "e2fsck"):
		return ui.Next(err, "e2fsck -p IMAGE?offset=BYTES repairs the file system; okd-streams disk probe IMAGE says where the partition is")
	case strings.Contains(text, "architecture"):
		return ui.Next(err, "name it with --arch")
	case strings.Contains(text, "console.cfg"), strings.Contains(text, "grub.cfg"):
		return ui.Next(err, "--keep-grub stamps the boot entries alone")
	}
	return err
}

func printPlatform(w io.Writer, output, platform string) error {
	if output != ui.Text {
		return ui.Write(w, output, map[string]string{"platform": platform}, nil)
	}
	if platform == "" {
		platform = "unstamped"
	}
	_, err := fmt.Fprintln(w, platform)
	return err
}

func printStamped(w io.Writer, output string, s *disk.Stamped) error {
	if output != ui.Text {
		return ui.Write(w, output, s, nil)
	}
	was := s.Was
	if was == "" {
		was = "unstamped"
	}
	rows := [][]string{{"platform", s.Platform}, {"was", was}, {"arguments", strings.Join(s.KernelArguments, " ")}}
	for _, file := range s.Files {
		rows = append(rows, []string{"changed", file})
	}
	if len(s.Files) == 0 {
		rows = append(rows, []string{"changed", "nothing"})
	}
	return ui.Table(w, rows)
}
