package bootimage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Cleanup is what a policy removed of a build that is still listed; its record
// stays.
type Cleanup struct {
	CloudUploads bool     `json:"cloud-uploads,omitempty"` // AMIs and the like
	Images       bool     `json:"images,omitempty"`        // all but those in ImagesKept
	ImagesKept   []string `json:"images-kept,omitempty"`
	Containers   bool     `json:"containers,omitempty"`
}

// cleanup is what was removed of the build.
func (e BuildEntry) cleanup() (Cleanup, error) {
	if e.PolicyCleanup == nil {
		return Cleanup{}, nil
	}
	d, err := decode[Cleanup](e.PolicyCleanup)
	if err != nil {
		return Cleanup{}, err
	}
	return *d.Value(), nil
}

// changeBuilds makes a change of builds.json, which must be there.
func changeBuilds(op string, now time.Time, change func(*Builds) (changed bool, err error)) func(old []byte) ([]byte, error) {
	return update(func() (*Document[Builds], error) {
		return nil, fmt.Errorf("bootimage: %s: %s: %w", op, BuildsFile, fs.ErrNotExist)
	}, func(d *Document[Builds]) error {
		return d.Edit(func(all *Builds) error {
			changed, err := change(all)
			if err != nil {
				return fmt.Errorf("bootimage: %s: %w", op, err)
			}
			if changed {
				all.Timestamp = now.UTC().Truncate(time.Second)
			}
			return nil
		})
	})
}

func (b *Builds) find(id string) (int, error) {
	if i := slices.IndexFunc(b.Builds, func(e BuildEntry) bool { return e.ID == id }); i >= 0 {
		return i, nil
	}
	if slices.ContainsFunc(b.Tombstones, func(e BuildEntry) bool { return e.ID == id }) {
		return 0, fmt.Errorf("build %s was deleted: %w", id, fs.ErrNotExist)
	}
	return 0, fmt.Errorf("build %.140q: %w", id, fs.ErrNotExist)
}

// Latest is the newest build that has the architecture; "": any.
func (b *Builds) Latest(arch string) (BuildEntry, bool) {
	for _, e := range b.Builds {
		if arch == "" || slices.Contains(e.Arches, arch) {
			return e, true
		}
	}
	return BuildEntry{}, false
}

// TagBuild gives a change of builds.json for publish.Update: a name for a build,
// which keeps it from being pruned. A tag that is there moves to the build. now
// is when, and the tag's time of creation where that is "". A build that is not
// in the catalogue is an error that wraps [io/fs.ErrNotExist].
func TagBuild(tag BuildTag, now time.Time) func(old []byte) ([]byte, error) {
	return changeBuilds("tag build", now, func(all *Builds) (bool, error) {
		if !reFile.MatchString(tag.Name) {
			return false, fmt.Errorf("%.80q is not the name of a tag: %w", tag.Name, fs.ErrInvalid)
		}
		if _, err := all.find(tag.Target); err != nil {
			return false, err
		}
		at := slices.IndexFunc(all.Tags, func(t BuildTag) bool { return t.Name == tag.Name })
		add := tag
		if add.Created == "" {
			add.Created = stamp(now)
		}
		switch {
		case at < 0:
			all.Tags = append(all.Tags, add)
		case all.Tags[at].Target == tag.Target && (tag.Description == "" || all.Tags[at].Description == tag.Description):
			return false, nil
		default:
			all.Tags[at] = add
		}
		return true, nil
	})
}

// UntagBuild gives a change of builds.json for publish.Update that removes a tag.
// One that is not there is removed already.
func UntagBuild(name string, now time.Time) func(old []byte) ([]byte, error) {
	return changeBuilds("untag build", now, func(all *Builds) (bool, error) {
		n := len(all.Tags)
		all.Tags = slices.DeleteFunc(all.Tags, func(t BuildTag) bool { return t.Name == name })
		return len(all.Tags) != n, nil
	})
}

// ErrTagged says that a build has a tag, and is thus not to be deleted.
var ErrTagged = errors.New("build is tagged")

// DeleteBuild gives a change of builds.json for publish.Update: the build becomes
// a tombstone, with all that is said of it; its id stays taken. Delete its files
// afterwards. A build with a tag is refused with [ErrTagged]; one that was deleted
// before is no error.
func DeleteBuild(id string, now time.Time) func(old []byte) ([]byte, error) {
	return changeBuilds("delete build", now, func(all *Builds) (bool, error) {
		for _, t := range all.Tags {
			if t.Target == id {
				return false, fmt.Errorf("%s: %w: %s", id, ErrTagged, t.Name)
			}
		}
		if slices.ContainsFunc(all.Tombstones, func(e BuildEntry) bool { return e.ID == id }) {
			return false, nil
		}
		at, err := all.find(id)
		if err != nil {
			return false, err
		}
		all.Tombstones = append(all.Tombstones, all.Builds[at])
		all.Builds = slices.Delete(all.Builds, at, at+1)
		return true, nil
	})
}

// CleanBuild gives a change of builds.json for publish.Update: what a policy
// removed of a build, joined with what it removed before. Remove it afterwards.
func CleanBuild(id string, removed Cleanup, now time.Time) func(old []byte) ([]byte, error) {
	return changeBuilds("clean build", now, func(all *Builds) (bool, error) {
		at, err := all.find(id)
		if err != nil {
			return false, err
		}
		entry := &all.Builds[at]
		document := Document[Cleanup]{root: &value{kind: '{'}}
		if entry.PolicyCleanup != nil {
			was, err := decode[Cleanup](entry.PolicyCleanup)
			if err != nil {
				return false, err
			}
			document = *was
		}
		before := string(document.Bytes())
		err = document.Edit(func(c *Cleanup) error {
			if removed.Images && c.Images {
				// Of what was kept, what is still kept.
				c.ImagesKept = slices.DeleteFunc(c.ImagesKept, func(name string) bool { return !slices.Contains(removed.ImagesKept, name) })
			} else if removed.Images {
				c.ImagesKept = removed.ImagesKept
			}
			c.CloudUploads, c.Images, c.Containers = c.CloudUploads || removed.CloudUploads, c.Images || removed.Images, c.Containers || removed.Containers
			return nil
		})
		if err != nil {
			return false, err
		}
		if string(document.Bytes()) == before {
			return false, nil
		}
		if err := document.Reindent(0); err != nil {
			return false, err
		}
		entry.PolicyCleanup = json.RawMessage(document.Bytes())
		return true, nil
	})
}
