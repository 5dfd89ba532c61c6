package registriesconf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxDropIns bounds the files of one drop-in folder.
const maxDropIns = 1000

// Options of [Load]. The zero value reads nothing.
type Options struct {
	// File is a registries.conf that must exist. "": Files are looked for.
	File string
	// Files are registries.conf files of which the first that exists is read.
	Files []string
	// Dirs are folders of drop-ins, read after that: files named *.conf, by
	// name; folders within are left alone. A folder that does not exist is
	// skipped.
	Dirs []string
	// MirrorSets are YAML files with ImageDigestMirrorSet, ImageTagMirrorSet
	// and ImageContentSourcePolicy objects; they must exist.
	MirrorSets []string
}

// Locate gives the files that podman reads without a flag:
// $CONTAINERS_REGISTRIES_CONF, or ~/.config/containers/registries.conf, or
// /etc/containers/registries.conf, and the drop-ins beside them; skopeo does not
// know the variable. The drop-ins of /etc do not count where there is a file in
// the home folder. getenv is [os.Getenv] of a program.
func Locate(getenv func(string) string) *Options {
	const system = "/etc/containers/registries.conf"
	o := &Options{File: getenv("CONTAINERS_REGISTRIES_CONF"), Files: []string{system}, Dirs: []string{system + ".d"}}
	home := getenv("HOME")
	if home == "" {
		return o
	}
	user := filepath.Join(home, ".config", "containers", "registries.conf")
	switch _, err := os.Stat(user); {
	case err == nil && o.File == "":
		return &Options{Files: []string{user}, Dirs: []string{user + ".d"}}
	case errors.Is(err, fs.ErrPermission):
		return o // HOME is somebody else's, as in a container that runs as any user
	}
	o.Dirs = append(o.Dirs, user+".d")
	return o
}

// Load reads a configuration. opts may be nil: nothing is configured then.
func Load(opts *Options) (*Config, error) {
	if opts == nil {
		opts = &Options{}
	}
	var conf, sets []File
	var errs []error
	read := func(to *[]File, path string, mustExist bool) bool {
		data, err := readFile(path)
		switch {
		case err == nil:
			*to = append(*to, File{Name: path, Data: data})
		case mustExist || !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, err)
		}
		return err == nil
	}
	if opts.File != "" {
		read(&conf, opts.File, true)
	} else {
		for _, path := range opts.Files {
			if read(&conf, path, false) {
				break
			}
		}
	}
	for _, dir := range opts.Dirs {
		names, err := dropIns(dir)
		if err != nil {
			errs = append(errs, err)
		}
		for _, path := range names {
			read(&conf, path, false) // it may be gone by now
		}
	}
	for _, path := range opts.MirrorSets {
		read(&sets, path, true)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("registriesconf: %w", err)
	}
	return New(conf, sets)
}

// dropIns lists the files of a drop-in folder by name.
func dropIns(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(maxDropIns + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(entries) > maxDropIns {
		return nil, fmt.Errorf("%s: more than %d files: %w", dir, maxDropIns, errors.ErrUnsupported)
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".conf") {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}

// readFile reads one byte more than may be, for New to see that it is too much.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFileSize+1))
}
