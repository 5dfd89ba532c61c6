package bootimage

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
)

// sameBuild are the keys in which two records of one build may not differ.
var sameBuild = []string{
	"buildid", "ostree-commit", "ostree-content-checksum", "coreos-assembler.image-config-checksum", "coreos-assembler.basearch",
	"coreos-assembler.container-image-git", "coreos-assembler.container-config-git",
}

// MergeMeta gives a change of meta.json for publish.Update: another record of the
// same build and architecture joins it, as coreos-assembler merges what several
// jobs write. Objects are joined key by key and lists item by item; of two values
// the one of the newer record counts, by its stamp. What one record alone has is
// never dropped. Records of other commits, contents, configurations or sources
// are refused, with an error that wraps [io/fs.ErrExist]. Without an old document
// it is other.
func MergeMeta(other []byte) func(old []byte) ([]byte, error) {
	return func(old []byte) ([]byte, error) {
		add, err := decode[Meta](other)
		if err != nil {
			return nil, err
		}
		if len(old) == 0 {
			return add.Bytes(), nil
		}
		d, err := decode[Meta](old)
		if err != nil {
			return nil, err
		}
		if err := mergeMeta(d, add); err != nil {
			return nil, err
		}
		return d.Bytes(), nil
	}
}

// FinalizeMeta gives a change of meta.json for publish.Update: fragments, the files
// meta.ARTIFACT.json that delayed merging leaves beside the record, join it as by
// [MergeMeta], and the record is marked as whole. There must be an old document.
func FinalizeMeta(fragments ...[]byte) func(old []byte) ([]byte, error) {
	return update(func() (*Document[Meta], error) {
		return nil, fmt.Errorf("bootimage: finalize meta.json: %w", fs.ErrNotExist)
	}, func(d *Document[Meta]) error {
		for _, f := range fragments {
			add, err := decode[Meta](f)
			if err != nil {
				return err
			}
			if err := mergeMeta(d, add); err != nil {
				return err
			}
		}
		return d.Edit(func(m *Meta) error { m.DelayedMetaMerge = false; return nil })
	})
}

// get is a value of an object; nil: it has none of that key, or null, or is none.
func (v *value) get(key string) *value {
	if v == nil {
		return nil
	}
	for _, m := range v.members {
		if m.key == key && !m.value.null() {
			return m.value
		}
	}
	return nil
}

// read is get as encoding/json reads: also of a key in other case, and of several the last.
func (v *value) read(key string) *value {
	if v == nil {
		return nil
	}
	for _, m := range slices.Backward(v.members) {
		if strings.EqualFold(m.key, key) && !m.value.null() {
			return m.value
		}
	}
	return nil
}

// plain is a value as text in one line, to tell it from others: as it stands in
// a document that is written anew, which members that are null do not.
func plain(v *value) string {
	if v == nil {
		return ""
	}
	var b strings.Builder
	own.fresh(v, "", false).write(&b)
	return b.String()
}

// stampOf is the stamp of a record; 0 if it has none.
func stampOf(m *Meta) int64 {
	n, err := m.MetaStamp.Int64()
	if err != nil {
		f, err := m.MetaStamp.Float64()
		if err != nil {
			return 0
		}
		n = int64(f)
	}
	return n
}

func mergeMeta(d, add *Document[Meta]) error {
	for _, key := range sameBuild {
		was, is := d.root.read(key), add.root.read(key)
		if was == nil || is == nil {
			continue
		}
		// Sources are the same where their commits are.
		if was.kind == '{' && is.kind == '{' {
			was, is = was.read("commit"), is.read("commit")
		}
		if plain(was) != plain(is) {
			return fmt.Errorf("bootimage: merge meta.json of build %s: %s is %s, not %s: %w", d.view.BuildID, key, plain(was), plain(is), fs.ErrExist)
		}
	}
	newer := stampOf(&add.view) > stampOf(&d.view)
	joined, err := joinValues(d.root, add.root, newer, "", false)
	if err != nil {
		return fmt.Errorf("bootimage: merge meta.json of build %s: %w", d.view.BuildID, err)
	}
	done, err := d.changed(joined)
	if err != nil {
		return err
	}
	*d = *done
	return nil
}

// joinValues is a with what b has more; where both have a value, b's counts if it
// is newer. files says that they are of images.
func joinValues(a, b *value, newer bool, path string, files bool) (*value, error) {
	switch {
	case a.null():
		return b, nil
	case a.kind == '{' && b.kind == '{':
		// A file has one content: what was published under its name stays. An older
		// record's file is not one half of the newer one's.
		if was, is := a.read("sha256"), b.read("sha256"); files && was != nil && is != nil && !was.equal(is) {
			if newer {
				return nil, &FieldError{Document: MetaFile, Path: path + ".sha256", Err: fmt.Errorf("is %s already: %w", plain(was), fs.ErrExist)}
			}
			return a, nil
		}
		out := &value{kind: '{'}
		for _, m := range a.members {
			if other := b.get(m.key); other != nil {
				var err error
				if m.value, err = joinValues(m.value, other, newer, join(path, m.key), files || path == "" && strings.EqualFold(m.key, "images")); err != nil {
					return nil, err
				}
			}
			out.members = append(out.members, m)
		}
		there := a.index()
		for _, m := range b.members {
			if _, ok := there[m.key]; !ok {
				out.members = append(out.members, m)
			}
		}
		return out, nil
	case a.kind == '[' && b.kind == '[':
		out := &value{kind: '[', members: slices.Clone(a.members)}
		seen := map[string]bool{}
		for _, m := range a.members {
			seen[plain(m.value)] = true
		}
		for _, m := range b.members {
			if text := plain(m.value); !seen[text] {
				seen[text] = true
				out.members = append(out.members, m)
			}
		}
		return out, nil
	case a.kind != b.kind:
		return nil, &FieldError{Document: MetaFile, Path: path, Err: errors.New("of different types")}
	}
	if a.equal(b) || !newer {
		return a, nil
	}
	return b, nil
}

// schemaArtifacts are the names of artifacts that coreos-assembler's schema has.
var schemaArtifacts = []string{
	"aliyun", "applehv", "aws", "azure", "azurestack", "dasd", "digitalocean", "exoscale", "extensions-container", "gcp", "hetzner", "hyperv",
	"ibmcloud", "ignition-gpg-key", "initramfs", "iso", "kernel", "kubevirt", "legacy-oscontainer", "live-initramfs", "live-iso", "live-kernel",
	"live-rootfs", "metal", "metal4k", "nutanix", "nvidiabluefield", "oci-manifest", "openstack", "oraclecloud", "ostree", "powervs", "proxmoxve",
	"qemu", "qemu-secex", "virtualbox", "vmware", "vultr",
}

// ValidateMeta checks a record by coreos-assembler's schema, version 1, beyond what
// decoding wants: no key that it does not have, as its strict readers refuse the
// record then; an artifact named "ostree" if there are artifacts; known names
// of artifacts; what images in clouds must have.
func ValidateMeta(d *Document[Meta]) error {
	v := &faults{document: MetaFile}
	known := jsonKeys[Meta]()
	for _, m := range d.root.members {
		if !slices.Contains(known, m.key) {
			v.fail(join("", m.key), "not a key of the schema: strict readers refuse the record")
		}
	}
	m := d.Value()
	if len(m.Images) > 0 {
		if _, ok := m.Images["ostree"]; !ok {
			v.fail("images.ostree", "missing")
		}
	}
	for name := range m.Images {
		if !slices.Contains(schemaArtifacts, name) {
			v.fail(join("images", name), "not an artifact of the schema")
		}
	}
	if m.OSTreeTimestamp.Format("Z0700") != "Z" {
		v.fail("ostree-timestamp", "not in UTC, with a Z at its end")
	}
	for _, list := range []struct {
		key  string
		amis []AMI
	}{{"amis", m.AMIs}, {"aws-winli", m.AWSWinLI}} {
		for i, a := range list.amis {
			if a.Region == "" || a.AMI == "" || a.Snapshot == "" {
				v.fail(fmt.Sprintf("%s[%d]", list.key, i), "name, hvm or snapshot missing")
			}
		}
	}
	for i, a := range m.Aliyun {
		if a.Region == "" || a.ID == "" {
			v.fail(fmt.Sprintf("aliyun[%d]", i), "name or id missing")
		}
	}
	if m.GCP != nil && (m.GCP.Image == "" || m.GCP.URL == "") {
		v.fail("gcp", "image or url missing")
	}
	for _, git := range []struct {
		key string
		git *Git
	}{
		{"coreos-assembler.container-config-git", m.ConfigGit}, {"coreos-assembler.container-image-git", m.ContainerImageGit},
		{"coreos-assembler.yumrepos-git", m.YumReposGit},
	} {
		if g := git.git; g != nil && (g.Origin == "" || len(g.Commit) < 5) {
			v.fail(join("", git.key), "origin or commit missing")
		}
	}
	for _, sum := range []struct{ key, value string }{
		{"ostree-content-checksum", m.OSTreeContentChecksum}, {"rpm-ostree-inputhash", m.InputHash}, {"fedora-coreos.parent-commit", m.ParentCommit},
		{"coreos-assembler.image-config-checksum", m.ImageConfigChecksum}, {"coreos-assembler.image-input-checksum", m.ImageInputChecksum},
	} {
		if sum.value != "" && len(sum.value) < 64 {
			v.fail(join("", sum.key), "%.80q is not a checksum", sum.value)
		}
	}
	return v.err()
}

// jsonKeys are the keys that T writes.
func jsonKeys[T any]() (keys []string) {
	for f := range reflect.TypeFor[T]().Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		keys = append(keys, key)
	}
	return keys
}
