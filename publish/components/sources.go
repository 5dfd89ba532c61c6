package components

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// sources fetches each source once.
type sources struct {
	fetch func(context.Context, Source) (*Tree, error)
	trees once[Source, *Tree]
	sums  once[string, string]
}

func (s *sources) get(ctx context.Context, source Source) (*Tree, error) {
	return s.trees.do(source, func() (*Tree, error) {
		if s.fetch == nil {
			return nil, errors.New("nobody to fetch sources")
		}
		tree, err := s.fetch(ctx, source)
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", source.Repository, err)
		}
		if !filepath.IsAbs(tree.Dir) {
			return nil, fmt.Errorf("fetch %s: folder %s is not absolute", source.Repository, tree.Dir)
		}
		if tree.Commit != "" && !commitID.MatchString(tree.Commit) || source.Commit != "" && tree.Commit != source.Commit {
			return nil, fmt.Errorf("fetch %s: commit %.100q came for %.100q", source.Repository, tree.Commit, source.Commit)
		}
		return tree, nil
	})
}

// checksum changes with any file of a folder, but for those of git.
func (s *sources) checksum(ctx context.Context, dir string) (string, error) {
	return s.sums.do(dir, func() (string, error) { return checksum(ctx, dir) })
}

func checksum(ctx context.Context, dir string) (_ string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	h := sha256.New()
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %s %d\n", path, info.Mode(), info.Size())
		switch {
		case info.Mode().IsRegular():
			file, err := root.Open(path)
			if err != nil {
				return err
			}
			_, err = io.Copy(h, file)
			return errors.Join(err, file.Close())
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := root.Readlink(path)
			fmt.Fprintf(h, "%q\n", target)
			return err
		}
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
