package buildah

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/okd-project/okd-streams/publish/components"
)

// BuildComponent is for [components.Env]. All of an image's own files come in one
// layer, its last, where the manifests of a payload are looked for.
func (b *Builder) BuildComponent(ctx context.Context, c *components.Build) error {
	for _, base := range c.Bases {
		id, err := b.run(ctx, filepath.Dir(base.Layout), "pull", "--quiet", "oci:"+filepath.Base(base.Layout))
		if err != nil {
			return err
		}
		if _, err := b.run(ctx, "", "tag", id, base.Name); err != nil {
			return err
		}
	}
	args := []string{"build", "--pull=never", "--no-cache", "--identity-label=false", "--format", "oci", "--file", c.Containerfile, "--tag", "oci:" + c.Output,
		"--timestamp", fmt.Sprint(c.Created.Unix())}
	if p := c.Platform; p.OS != runtime.GOOS || p.Architecture != runtime.GOARCH {
		args = append(args, "--platform", p.String())
	}
	if b.Isolation != "" {
		args = append(args, "--isolation", b.Isolation)
	}
	for _, list := range []struct {
		flag   string
		values []string
	}{{"--build-arg", c.Args}, {"--label", c.Labels}, {"--volume", b.Volumes}, {"--secret", b.Secrets}} {
		for _, v := range list.values {
			args = append(args, list.flag, v)
		}
	}
	_, err := b.run(ctx, "", append(args, c.Context)...)
	return err
}
