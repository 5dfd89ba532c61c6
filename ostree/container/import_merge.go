package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/okd-project/okd-streams/ostree"
)

// Metadata of an image's commit, as ostree-ext and bootc write and read it.
const (
	keyManifest       = "ostree.manifest"
	keyManifestDigest = "ostree.manifest-digest"
	keyConfig         = "ostree.container.image-config"
	annotationCreated = "org.opencontainers.image.created"
)

// rules gives the rules for layers above a commit; zero: it is a plain image.
func (im *importer) rules(ctx context.Context, base ostree.Checksum) (*layerRules, error) {
	if base.IsZero() {
		r := &layerRules{anywhere: true, plain: true}
		if im.repo.Mode() != ostree.ModeBareUserOnly {
			r.policy = im.opts.SELinux
		}
		return r, nil
	}
	fsys, err := im.repo.FS(ctx, base)
	if err != nil {
		return nil, err
	}
	r := &layerRules{}
	if r.anywhere, err = transientRoot(fsys); err == nil {
		r.policy, r.policyID, err = im.importPolicy(ctx, base)
	}
	return r, err
}

// transientRoot reports whether a commit's root can be written to, so that files
// may be anywhere in it: ostree-prepare-root's root.transient.
func transientRoot(fsys fs.FS) (bool, error) {
	const path = "usr/lib/ostree/prepare-root.conf"
	data, err := fs.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	group := ""
	for line := range strings.SplitSeq(string(data), "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			group = line[1 : len(line)-1]
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if ok && group == "root" && strings.TrimSpace(key) == "transient" {
			switch v := strings.TrimSpace(value); v {
			case "yes", "true", "1", "maybe":
				return true, nil
			case "no", "false", "0":
				return false, nil
			default:
				return false, fmt.Errorf("%s: root.transient is %.80q", path, v)
			}
		}
	}
	return false, nil
}

// injected are files that container builds leave, empty, behind; see buildah's
// issue 4242.
var injected = []string{"usr/etc/hostname", "usr/etc/resolv.conf"}

// merge commits the image's tree, under its name.
func (im *importer) merge(ctx context.Context, base ostree.Checksum, above []builtLayer, layers []ostree.Layer) (ostree.Checksum, error) {
	tree, err := im.repo.Layers(ctx, base, layers)
	if err != nil {
		fault, _ := errors.AsType[*ostree.Error](err)
		for i := range layers {
			if fault != nil && fault.Target == layers[i].Commit.String() {
				return ostree.Checksum{}, &Error{"import", importLayerName(im.stats.Layers-len(above)+i, &above[i]), fault.Err}
			}
		}
		return ostree.Checksum{}, err
	}
	for _, path := range injected {
		c, err := tree.Object(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return c, err
		}
		f, err := im.repo.ReadFile(ctx, c)
		if err != nil {
			return c, err
		}
		if f.Mode&ostree.ModeType == ostree.ModeRegular && f.Size == 0 {
			if err := tree.Remove(ctx, path); err != nil {
				return c, err
			}
		}
	}
	manifest, err := sortedJSON(im.raw)
	if err != nil {
		return ostree.Checksum{}, fmt.Errorf("manifest: %w", err)
	}
	config, err := sortedJSON(im.config)
	if err != nil {
		return ostree.Checksum{}, fmt.Errorf("config: %w", err)
	}
	policy, err := im.mergedPolicy(ctx, base, layers, tree)
	if err != nil {
		return ostree.Checksum{}, err
	}
	c, err := im.repo.Commit(ctx, tree, &ostree.CommitOptions{
		Ref: im.ref, SELinux: policy, Parent: base, Timestamp: im.timestamp(ctx), Workers: im.opts.Workers, NoFsync: im.opts.NoFsync,
		Metadata: []ostree.MetadataItem{
			{Key: keyConfig, Value: ostree.StringVariant(config)},
			{Key: keyImporter, Value: ostree.StringVariant(importerVersion)},
			{Key: keyManifest, Value: ostree.StringVariant(manifest)},
			{Key: keyManifestDigest, Value: ostree.StringVariant(im.digest.String())},
		},
	})
	if err != nil || policy == nil || !base.IsZero() {
		return c, err
	}
	return c, im.relabel(ctx, policy, above, layers)
}

// timestamp is the image's time, by its manifest or else its config, in whole
// seconds; zero: it has none, or none that can be read.
func (im *importer) timestamp(ctx context.Context) time.Time {
	var manifest struct {
		Annotations map[string]string `json:"annotations"`
	}
	var config struct {
		Created string `json:"created"`
	}
	err := errors.Join(json.Unmarshal(im.raw, &manifest), json.Unmarshal(im.config, &config))
	text, ok := manifest.Annotations[annotationCreated]
	if !ok {
		text = config.Created
	}
	if text == "" {
		return time.Time{}
	}
	t, parseErr := time.Parse(time.RFC3339, text)
	if err = errors.Join(err, parseErr); err != nil || t.Unix() < 0 {
		if im.opts.Logger != nil {
			im.opts.Logger.WarnContext(ctx, "image has no usable time", slog.String("created", text), slog.Any("err", err))
		}
		return time.Time{}
	}
	return t.Truncate(time.Second)
}

// sortedJSON gives a JSON document in the canonical form that bootc stores: keys
// sorted by UTF-16, no white space, as few escapes as RFC 8785 has. Numbers stay
// as they are written.
func sortedJSON(data []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	return string(appendSorted(nil, v)), nil
}

func appendSorted(dst []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		dst = append(dst, '{')
		keys := slices.SortedFunc(maps.Keys(v), func(a, b string) int {
			return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		})
		for i, key := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendJSONText(dst, key), ':')
			dst = appendSorted(dst, v[key])
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendSorted(dst, e)
		}
		return append(dst, ']')
	case string:
		return appendJSONText(dst, v)
	case json.Number:
		return append(dst, v...)
	case bool:
		if v {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	default:
		return append(dst, "null"...)
	}
}

func appendJSONText(dst []byte, text string) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c < 0x20:
			dst = fmt.Appendf(dst, "\\u%04x", c)
		default:
			dst = utf8.AppendRune(dst, c)
		}
	}
	return append(dst, '"')
}
