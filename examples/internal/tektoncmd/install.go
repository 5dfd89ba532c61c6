package tektoncmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
)

func install() *cobra.Command {
	return &cobra.Command{
		Use: "install FOLDER", Short: "Put this program into a folder, for a step that runs in another image", DisableFlagsInUseLine: true,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if info, err := os.Stat(args[0]); err != nil || !info.IsDir() {
				return ui.Usagef("%s is no folder", args[0])
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			to := filepath.Join(args[0], "okd-streams")
			if err := copyFile(to, self); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), to)
			return err
		},
	}
}

// copyFile makes a program, which is there whole or not at all.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	temp, err := os.CreateTemp(filepath.Dir(to), ".okd-streams.*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = io.Copy(temp, src)
	if err := errors.Join(err, temp.Chmod(0o755), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), to)
}
