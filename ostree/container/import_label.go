package container

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/ostree"
)

// importPolicy reads the SELinux policy of a commit; nil: it has none, or the
// repository can't keep labels. id names the policy's files.
func (im *importer) importPolicy(ctx context.Context, commit ostree.Checksum) (policy *ostree.Policy, id string, err error) {
	if im.repo.Mode() == ostree.ModeBareUserOnly {
		return nil, "", nil
	}
	fsys, err := im.repo.FS(ctx, commit)
	if err != nil {
		return nil, "", err
	}
	policy, err = ostree.ReadPolicy(fsys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	tree, err := im.treeAt(ctx, commit, policyFolder)
	return policy, tree.String(), err
}

// policyFolder is where a commit has its SELinux policy.
const policyFolder = "usr/etc/selinux"

// treeAt gives the dirtree of a commit's directory; zero: it has none there.
func (im *importer) treeAt(ctx context.Context, commit ostree.Checksum, path string) (ostree.Checksum, error) {
	c, err := im.repo.ReadCommit(ctx, commit)
	if err != nil {
		return ostree.Checksum{}, err
	}
	tree := c.RootTree
	for part := range strings.SplitSeq(path, "/") {
		t, err := im.repo.ReadDirTree(ctx, tree)
		if err != nil {
			return ostree.Checksum{}, err
		}
		i, ok := slices.BinarySearchFunc(t.Dirs, part, func(d ostree.DirTreeDir, name string) int { return strings.Compare(d.Name, name) })
		if !ok {
			return ostree.Checksum{}, nil
		}
		tree = t.Dirs[i].Tree
	}
	return tree, nil
}

// mergedPolicy gives the policy by which everything has to be labelled again: that
// of the whole tree, if layers have a part in it. Nil: labels are right as they
// are.
func (im *importer) mergedPolicy(ctx context.Context, base ostree.Checksum, layers []ostree.Layer, tree *ostree.MutableTree) (*ostree.Policy, error) {
	if im.repo.Mode() == ostree.ModeBareUserOnly || len(layers) == 0 {
		return nil, nil
	}
	changed := base.IsZero()
	for i := range layers {
		if changed {
			break
		}
		fsys, err := im.repo.FS(ctx, layers[i].Commit)
		if err != nil {
			return nil, err
		}
		for _, path := range []string{
			policyFolder, "usr/etc/.wh.selinux", "usr/etc/" + opaque, "usr/.wh.etc", "usr/" + opaque, ".wh.usr", opaque, "etc/selinux",
		} {
			if _, err := fs.Lstat(fsys, path); err == nil {
				changed = true
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
	}
	if !changed {
		return nil, nil
	}
	policy, err := ostree.TreePolicy(ctx, tree)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return policy, err
}

// relabel commits layers again, with the labels that their files have in the
// image, under the same refs: then they have objects in common with the image's
// commit, and the others can be pruned.
func (im *importer) relabel(ctx context.Context, policy *ostree.Policy, layers []builtLayer, commits []ostree.Layer) error {
	for i := range commits {
		c, err := im.repo.ReadCommit(ctx, commits[i].Commit)
		if err != nil {
			return err
		}
		ref, err := layerRef(layers[i].descriptor.Digest)
		if err != nil {
			return err
		}
		_, err = im.repo.Commit(ctx, im.repo.Tree(commits[i].Commit), &ostree.CommitOptions{
			Ref: ref, Metadata: c.Metadata, Timestamp: c.Timestamp, SELinux: policy, Workers: im.opts.Workers, NoFsync: im.opts.NoFsync,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
