package releasecmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
)

// oc tags image streams by the program of that name, on the cluster that it is
// logged in to.
type oc struct{ program, namespace string }

// maxAnswer bounds what the program may print, bytes.
const maxAnswer = 1 << 20

func (o oc) run(ctx context.Context, args ...string) (string, error) {
	if o.namespace != "" {
		args = append(args, "--namespace="+o.namespace)
	}
	cmd := exec.CommandContext(ctx, o.program, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("%s %s: %.300q: %w", o.program, args[0], said, err)
	}
	if out.Len() > maxAnswer {
		return "", fmt.Errorf("%s %s: more than %d bytes", o.program, args[0], maxAnswer)
	}
	return strings.TrimSpace(out.String()), nil
}

// at gives what a tag points to, "" for nothing.
func (o oc) at(ctx context.Context, imageStream, tag string) (string, error) {
	return o.run(ctx, "get", "imagestreamtag", imageStream+":"+tag, "--ignore-not-found", "--output=jsonpath={.tag.from.name}")
}

func (o oc) Tag(ctx context.Context, imageStream, tag, pullspec string) error {
	at, err := o.at(ctx, imageStream, tag)
	if err != nil || at == pullspec {
		return err
	}
	if at != "" {
		return fmt.Errorf("image stream tag %s:%s is %.300q: %w", imageStream, tag, at, fs.ErrExist)
	}
	if _, err := o.run(ctx, "tag", "--source=docker", pullspec, imageStream+":"+tag); err != nil {
		return err
	}
	if at, err = o.at(ctx, imageStream, tag); err == nil && at != pullspec {
		err = errors.New("image stream tag " + imageStream + ":" + tag + " was set, and is not there")
	}
	return err
}

func (o oc) Untag(ctx context.Context, imageStream, tag, pullspec string) error {
	at, err := o.at(ctx, imageStream, tag)
	if err != nil || at != pullspec {
		return err
	}
	_, err = o.run(ctx, "tag", "--delete", imageStream+":"+tag)
	return err
}
