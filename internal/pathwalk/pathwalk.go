// Package pathwalk follows a path of a file system that is read without the kernel's help.
package pathwalk

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxLinks is how many symbolic links are followed on the way to a file, as the
// kernel does.
const maxLinks = 40

// maxNames is how many names are looked up on the way, each in a directory that may be
// large: links of some kilobytes could lead through one again and again.
const maxNames = 256

// Walk gives the file at a path from root. Symbolic links are followed, and stay within
// the file system: the parent of its root is the root. child finds a name in a
// directory; link tells whether a file is a symbolic link, and where it leads. Errors of
// both are passed on; too many links and names wrap [fs.ErrInvalid].
func Walk[F any](root F, name string, child func(dir F, name string) (F, error), link func(F) (target string, is bool, err error)) (F, error) {
	way := []F{root} // from the root to where we are
	left := strings.Split(name, "/")
	for links, names := 0, 0; len(left) > 0; {
		part := left[0]
		left = left[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			way = way[:max(1, len(way)-1)]
			continue
		}
		if names++; names > maxNames {
			return root, fmt.Errorf("more than %d names on the way: %w", maxNames, fs.ErrInvalid)
		}
		file, err := child(way[len(way)-1], part)
		if err != nil {
			return root, err
		}
		target, is, err := link(file)
		if err != nil {
			return root, err
		}
		if !is {
			way = append(way, file)
			continue
		}
		if links++; links > maxLinks {
			return root, fmt.Errorf("too many symbolic links: %w", fs.ErrInvalid)
		}
		if path.IsAbs(target) {
			way = way[:1]
		}
		left = append(strings.Split(target, "/"), left...)
	}
	return way[len(way)-1], nil
}
