package bootimage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"
)

// AddArtifacts adds artifacts to the build in dir, the folder with meta.json: fill gets
// its record, writes files into the folder, and gives what they are, by artifact. All are
// recorded in one change of meta.json; without any it stays as it is. now is recorded as
// when that was; zero: what it says stays. One process works on a build at a time, as with
// [CompressBuild]; others wait.
//
// An artifact or a file that the record has by then is not replaced: that is an error of
// [io/fs.ErrExist], as when others recorded it meanwhile. After an error nothing is
// recorded, and files that fill gave are removed.
func AddArtifacts(ctx context.Context, dir *os.Root, now time.Time, fill func(ctx context.Context, meta *Meta) (map[string]Image, error)) (err error) {
	folder, err := lockFolder(ctx, dir)
	if err != nil {
		return fmt.Errorf("bootimage: add artifacts: %w", err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	meta, err := readFile(dir.FS(), MetaFile, DecodeMeta)
	if err != nil {
		return fmt.Errorf("bootimage: add artifacts: %w", err)
	}
	made, err := fill(ctx, meta.Value())
	if err != nil || len(made) == 0 {
		return err
	}
	named := filesOf(meta.Value().Images)
	err = editMeta(ctx, dir, now, func(m *Meta) error {
		named = filesOf(m.Images)
		if m.Images == nil {
			m.Images = map[string]Image{}
		}
		for _, name := range slices.Sorted(maps.Keys(made)) {
			image := made[name]
			if _, ok := m.Images[name]; ok {
				return fmt.Errorf("artifact %s is there: %w", name, fs.ErrExist)
			}
			if other, ok := filesOf(m.Images)[image.Path]; ok {
				return fmt.Errorf("artifact %s: %s is the file of artifact %s: %w", name, image.Path, other, fs.ErrExist)
			}
			m.Images[name] = image
		}
		return nil
	})
	if err == nil {
		return nil
	}
	for _, image := range made {
		if _, ok := named[image.Path]; !ok {
			err = errors.Join(err, removeAll(dir, image.Path))
		}
	}
	return fmt.Errorf("bootimage: add artifacts: %w", err)
}

// filesOf gives artifacts by their files.
func filesOf(images map[string]Image) map[string]string {
	names := make(map[string]string, len(images))
	for name, image := range images {
		names[image.Path] = name
	}
	return names
}
