package bootimage

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// MergeBuilds gives a change of builds.json for publish.Update: another catalogue
// joins it, with all that it says of its builds, keys that are not known here too.
// Builds that are new come first, in its order; further architectures join their
// build. Tags of builds that are then there, and tombstones of builds that are not,
// are added. What is there stays: a tag of that name, a build whose id the other has
// as a tombstone, and what is said of a build, [CleanBuild] apart. A build that was
// deleted is not brought back: the error wraps [io/fs.ErrExist]. Where the other has
// nothing more nothing changes; else now is the time of the change. Without an old
// document it is other, which has a time then.
func MergeBuilds(other []byte, now time.Time) func(old []byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) {
		add, err := decode[Builds](other)
		if err != nil {
			return nil, err
		}
		if len(old) == 0 {
			if add.view.Timestamp.IsZero() {
				err = add.Edit(func(b *Builds) error { b.Timestamp = now.UTC().Truncate(time.Second); return nil })
			}
			return add.Bytes(), err
		}
		d, err := decode[Builds](old)
		if err != nil {
			return nil, err
		}
		for _, e := range add.view.Builds {
			if slices.ContainsFunc(d.view.Tombstones, func(t BuildEntry) bool { return t.ID == e.ID }) {
				return nil, fmt.Errorf("bootimage: merge %s: build %s was deleted: %w", BuildsFile, e.ID, fs.ErrExist)
			}
		}
		joined := joinBuilds(d.root, add.root)
		if plain(joined) == plain(d.root) {
			return d.Bytes(), nil
		}
		if d, err = d.changed(joined); err != nil {
			return nil, err
		}
		err = d.Edit(func(b *Builds) error { b.Timestamp = now.UTC().Truncate(time.Second); return nil })
		if err != nil {
			return nil, err
		}
		return d.Bytes(), nil
	}
}

// with is an object with another value of a key.
func (v *value) with(key string, to *value) *value {
	out := &value{kind: '{', members: slices.Clone(v.members)}
	if i, ok := out.index()[key]; ok {
		out.members[i].value = to
	} else {
		out.members = append(out.members, member{key: key, value: to})
	}
	return out
}

// text is a string as it is read, however it is written; "" of other values.
func (v *value) text() (text string) {
	if v != nil && strings.HasPrefix(v.raw, `"`) {
		_ = json.Unmarshal([]byte(v.raw), &text) // it was read before
	}
	return text
}

// list is the items of a list or the members of an object under a key; none where
// there is no such.
func (v *value) list(key string) []member {
	if l := v.read(key); l != nil {
		return l.members
	}
	return nil
}

// items are the items of lists under a key, by the text of theirs.
func (v *value) items(key, by string) map[string]*value {
	all := map[string]*value{}
	for _, m := range v.list(key) {
		all[m.value.read(by).text()] = m.value
	}
	return all
}

// more are the keys of an object that another lacks, but for some.
func (v *value) more(than *value, but ...string) (members []member) {
	for _, m := range v.members {
		if than.read(m.key) == nil && !slices.Contains(but, m.key) {
			members = append(members, m)
		}
	}
	return members
}

func joinBuilds(a, b *value) *value {
	was, is := a.items("builds", "id"), b.items("builds", "id")
	buried, tagged := a.items("tombstone-builds", "id"), a.items("tags", "name")
	builds := &value{kind: '['}
	for _, m := range b.list("builds") {
		if was[m.value.read("id").text()] == nil {
			builds.members = append(builds.members, member{value: m.value})
		}
	}
	for _, m := range a.list("builds") {
		if add := is[m.value.read("id").text()]; add != nil {
			m.value = joinEntry(m.value, add)
		}
		builds.members = append(builds.members, m)
	}
	out := &value{kind: '{', members: append(slices.Clone(a.members), b.more(a, "builds", "tags", "tombstone-builds")...)}
	out = out.with("builds", builds)
	there := out.items("builds", "id")
	extend := func(key string, wanted func(item *value) bool) {
		var more []member
		for _, m := range b.list(key) {
			if wanted(m.value) {
				more = append(more, member{value: m.value})
			}
		}
		if len(more) > 0 {
			out = out.with(key, &value{kind: '[', members: append(slices.Clone(a.list(key)), more...)})
		}
	}
	extend("tags", func(t *value) bool {
		return tagged[t.read("name").text()] == nil && there[t.read("target").text()] != nil
	})
	extend("tombstone-builds", func(e *value) bool { id := e.read("id").text(); return buried[id] == nil && there[id] == nil })
	return out
}

// joinEntry is a build with the architectures and the keys that the other has more.
// What a policy removed there is not removed here.
func joinEntry(a, b *value) *value {
	arches := &value{kind: '[', members: slices.Clone(a.list("arches"))}
	for _, m := range b.list("arches") {
		same := func(o member) bool { return o.value.text() == m.value.text() }
		if !slices.ContainsFunc(arches.members, same) {
			arches.members = append(arches.members, member{value: m.value})
		}
	}
	out := &value{kind: '{', members: append(slices.Clone(a.members), b.more(a, "arches", "policy-cleanup")...)}
	return out.with("arches", arches)
}

// partOf is what a catalogue says of one architecture's build: its entry and its tags,
// and all that is not of builds that are there. It has no time, so that it is the same
// whatever happens to other builds.
func partOf(d *Document[Builds], id, arch string) (*Document[Builds], error) {
	keep := func(v *value, key string, wanted func(item *value) bool) *value {
		if v.read(key) == nil {
			return v
		}
		l := &value{kind: '[', members: slices.Clone(v.list(key))}
		l.members = slices.DeleteFunc(l.members, func(m member) bool { return !wanted(m.value) })
		return v.with(key, l)
	}
	is := func(key, want string) func(*value) bool {
		return func(item *value) bool { return item.read(key).text() == want }
	}
	root := keep(d.root, "builds", is("id", id))
	root = keep(root, "tags", is("target", id))
	root.members = slices.DeleteFunc(root.members, func(m member) bool { return m.key == "timestamp" })
	l := &value{kind: '[', members: slices.Clone(root.list("builds"))}
	for i, m := range l.members {
		l.members[i].value = keep(m.value, "arches", func(item *value) bool { return item.text() == arch })
	}
	return d.changed(root.with("builds", l))
}
