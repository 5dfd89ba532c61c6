package ostree

import (
	"context"
	"slices"
)

// UnsetConfig takes a key out of the repository's config file, or with key "" a
// group and all that is in it, and keeps every other line; false: it was not
// there. See [Repo.SetConfig].
func (r *Repo) UnsetConfig(ctx context.Context, group, key string) (bool, error) {
	found, err := r.unsetConfig(ctx, group, key)
	if err != nil {
		return false, &Error{Op: "unset config", Target: group + "." + key, Err: err}
	}
	return found, nil
}

func (r *Repo) unsetConfig(ctx context.Context, group, key string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	data, err := readFileAt(r.dir, "config", maxConfigSize)
	if err != nil {
		return false, err
	}
	k, err := parseKeyFile(data)
	if err != nil {
		return false, err
	}
	before := len(k.lines)
	k.lines = slices.DeleteFunc(k.lines, func(l keyLine) bool { return l.group == group && (key == "" || l.key == key) })
	if len(k.lines) == before {
		return false, nil
	}
	if _, err := parseSettings(k); err != nil {
		return false, err
	}
	return true, r.replace("config", k.bytes(), r.settings.fsync)
}
