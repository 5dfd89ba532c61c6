package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// peerCommit commits tree to repo, made before, with ostree.
func peerCommit(repo, tree string) *exec.Cmd {
	return exec.Command("ostree", "--repo="+repo, "commit", "--branch="+branch, "--subject="+subject, "--timestamp=@"+fmt.Sprint(stamp), "--tree=dir="+tree)
}

// peerInit makes an empty repository that does not call fsync.
func peerInit(repo, mode string) error {
	for _, args := range [][]string{
		{"init", "--mode=" + mode},
		{"config", "set", "core.fsync", "false"},
		// The first checkout -U of ostree 2022.7 from an archive repository would keep
		// each file uncompressed there, and those after it would link to that.
		{"config", "set", "core.enable-uncompressed-cache", "false"},
	} {
		if out, err := exec.Command("ostree", append([]string{"--repo=" + repo}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ostree %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

// layers is how many chunks the peer makes, as many as we do by default.
const layers = 63

// contentMeta writes a map from objects to layers for ostree-ext, whose command
// line makes one layer of each name it is given and packs nothing itself: the
// objects of a package are together, packages are spread over the layers by
// their names, so that a package is in the same layer on both days.
func contentMeta(file, repo, tree string) error {
	owners, err := debianOwners(tree)
	if err != nil {
		return err
	}
	list := exec.Command("ostree", "--repo="+repo, "ls", "-R", "-C", branch)
	out, err := list.StdoutPipe()
	if err != nil {
		return err
	}
	if err := list.Start(); err != nil {
		return err
	}
	meta := struct {
		Version int               `json:"version"`
		Layers  map[string]string `json:"layers"`
		Mapping map[string]string `json:"mapping"`
	}{1, map[string]string{}, map[string]string{}}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// -00644 0 0 1234 CHECKSUM /path; directories have two checksums
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[0][0] == 'd' {
			continue
		}
		path := fields[5]
		layer := "unpackaged"
		if owner := owners[path]; owner != "" {
			hash := fnv.New32a()
			hash.Write([]byte(owner))
			layer = fmt.Sprintf("layer%02d", hash.Sum32()%(layers-1))
		}
		meta.Layers[layer] = layer
		meta.Mapping[fields[4]] = layer
	}
	if err := errors.Join(lines.Err(), list.Wait()); err != nil {
		return fmt.Errorf("ostree ls: %w", err)
	}
	text, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// debianOwners maps paths to Debian packages; empty for a tree without dpkg.
func debianOwners(tree string) (map[string]string, error) {
	owners := make(map[string]string)
	lists, err := filepath.Glob(filepath.Join(tree, "var", "lib", "dpkg", "info", "*.list"))
	if err != nil {
		return nil, err
	}
	for _, file := range lists {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			path := strings.TrimSpace(line)
			for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
				if strings.HasPrefix(path, dir) { // dpkg names these; merged systems have them in /usr
					path = "/usr" + path
				}
			}
			if strings.HasPrefix(path, "/etc/") { // arranged for OSTree
				path = "/usr" + path
			}
			owners[path] = filepath.Base(file)
		}
	}
	return owners, nil
}

// peerPush encapsulates with ostree-ext to a layout and copies that to the
// registry with skopeo, whose memory of blobs is fresh with home.
func peerPush(ctx context.Context, ostreeExt, home, repo, meta, layout, host, tag string) []*exec.Cmd {
	encapsulate := exec.CommandContext(ctx, ostreeExt, "container", "encapsulate", "--repo="+repo, "--contentmeta="+meta, branch, "oci:"+layout)
	push := exec.CommandContext(ctx, "skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "oci:"+layout, "docker://"+host+"/peer:"+tag)
	for _, cmd := range []*exec.Cmd{encapsulate, push} {
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "XDG_CACHE_HOME=", "XDG_CONFIG_HOME=")
	}
	return []*exec.Cmd{encapsulate, push}
}

// bytesBelow adds up the sizes of the regular files below dir.
func bytesBelow(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		sum += info.Size()
		return nil
	})
	return sum, err
}
