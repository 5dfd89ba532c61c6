package ostree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/unix"
)

// Handler serves an archive repository to those who pull from it, at the root of
// the URL (see [http.StripPrefix]): objects, refs of its own, static deltas and
// their indexes, the summary and its signature, and of the config what pulling
// needs. Everything else does not exist: state, temporary files, refs of remotes,
// the rest of the config. Objects are served as they lie, and those that a
// parent (core.parent) has, too. Symbolic links are not followed, but refs that
// are aliases are resolved. Requests are GET or HEAD, ranges and conditions are
// honoured.
//
// What is named by its content may be kept for ever by caches, everything else
// must be asked for again. The repository may be written to meanwhile. It and its
// parents must be of [ModeArchive], or the error wraps [errors.ErrUnsupported].
// The handler ends with r.
func Handler(r *Repo) (http.Handler, error) {
	for repo := r; repo != nil; repo = repo.parent {
		if mode := repo.settings.mode; mode != ModeArchive {
			return nil, &Error{Op: "serve", Target: repo.path, Err: fmt.Errorf("mode %s, want %s: %w", mode, ModeArchive, errUnsupported)}
		}
	}
	return &handler{r}, nil
}

type handler struct{ repo *Repo }

// Values of Cache-Control.
const (
	cacheForever = "public, max-age=31536000, immutable"
	cacheNever   = "no-cache" // keep it, but ask before it is used
)

func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", cacheNever)
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	err := h.serve(w, req)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, "not found", http.StatusNotFound)
	case req.Context().Err() != nil: // nobody listens
	default:
		h.repo.log.LogAttrs(req.Context(), slog.LevelError, "serving failed", slog.String("path", req.URL.Path), slog.Any("error", err))
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// serve answers, or gives an error before anything is sent.
func (h *handler) serve(w http.ResponseWriter, req *http.Request) error {
	name, ok := strings.CutPrefix(req.URL.Path, "/")
	if !ok {
		return fs.ErrNotExist
	}
	switch name {
	case "config":
		text, err := h.repo.publicConfig()
		if err == nil {
			serveText(w, req, text)
		}
		return err
	case "summary", "summary.sig":
		return h.repo.serveFile(w, req, name, "")
	}
	kind, rest, _ := strings.Cut(name, "/")
	switch kind {
	case "refs":
		rest, ok := strings.CutPrefix(rest, "heads/")
		if !ok || strings.Contains(rest, ":") {
			return fs.ErrNotExist
		}
		c, err := h.repo.servedRef(req.Context(), rest)
		if err == nil {
			serveText(w, req, c.String()+"\n")
		}
		return err
	case "objects":
		c, ext, ok := parseObjectPath(rest)
		if !ok {
			return fs.ErrNotExist
		}
		tag := ""
		switch ext {
		case TypeDirTree.String(), TypeDirMeta.String(), TypeCommit.String():
			tag = `"` + c.String() + `"`
			w.Header().Set("Cache-Control", cacheForever)
		case "filez":
			// Compressed elsewhere, the same object has other bytes, which serve
			// as well but are no continuation of these.
			w.Header().Set("Cache-Control", cacheForever)
		case TypeCommitMeta.String(), TypeTombstone.String():
		default:
			return fs.ErrNotExist
		}
		var err error
		for repo := h.repo; repo != nil; repo = repo.parent {
			if err = repo.serveFile(w, req, name, tag); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		if err != nil {
			w.Header().Set("Cache-Control", cacheNever)
		}
		return err
	case "deltas":
		first, rest, _ := strings.Cut(rest, "/")
		second, file, _ := strings.Cut(rest, "/")
		if _, ok := parseDeltaPath(first, second); !ok || !isDeltaFile(file) {
			return fs.ErrNotExist
		}
		return h.repo.serveFile(w, req, name, "")
	case "delta-indexes":
		folder, file, _ := strings.Cut(rest, "/")
		text, ok := strings.CutSuffix(file, ".index")
		if _, valid := parseDeltaPath(folder, text); !ok || !valid || strings.Contains(text, "-") {
			return fs.ErrNotExist
		}
		return h.repo.serveFile(w, req, name, "")
	}
	return fs.ErrNotExist
}

// parseObjectPath reads the path of an object below objects/.
func parseObjectPath(text string) (c Checksum, ext string, ok bool) {
	folder, file, _ := strings.Cut(text, "/")
	digits, ext, ok := strings.Cut(file, ".")
	if !ok || len(folder) != 2 {
		return c, "", false
	}
	c, err := ParseChecksum(folder + digits)
	return c, ext, err == nil
}

// isDeltaFile is true for the names of a static delta's files: the superblock
// and parts, which have numbers.
func isDeltaFile(name string) bool {
	n, err := strconv.ParseUint(name, 10, 32)
	return name == "superblock" || err == nil && strconv.FormatUint(n, 10) == name
}

// servedRef finds a ref of the repository, or else of a parent.
func (r *Repo) servedRef(ctx context.Context, name string) (c Checksum, err error) {
	p, err := refPath(name)
	if err != nil {
		return c, fs.ErrNotExist
	}
	for repo := r; repo != nil; repo = repo.parent {
		if err := ctx.Err(); err != nil {
			return c, err
		}
		if c, err = repo.readRefPath(p); err == nil || !noRef(err) {
			return c, err
		}
	}
	return c, fs.ErrNotExist
}

// noRef is true for errors that say that there is no such ref, or that it is a
// symbolic link to somewhere else, which only [os.Root] itself calls an error.
func noRef(err error) bool {
	var errno unix.Errno
	broken, ok := errors.AsType[*fs.PathError](err)
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENAMETOOLONG) || ok && !errors.As(broken.Err, &errno)
}

// publicKeys are the keys of the group core that those who pull read.
var publicKeys = []string{"repo_version", "mode", "tombstone-commits", "indexed-deltas", "collection-id"}

// publicConfig is the config as it is served. It is read again: summaries
// change it.
func (r *Repo) publicConfig() (string, error) {
	data, err := readFileAt(r.dir, "config", maxConfigSize)
	if err != nil {
		return "", err
	}
	config, err := parseKeyFile(data)
	if err != nil {
		return "", err
	}
	text := "[core]\n"
	for _, key := range publicKeys {
		if value, ok := config.get("core", key); ok {
			text += key + "=" + value + "\n"
		}
	}
	return text, nil
}

func serveText(w http.ResponseWriter, req *http.Request, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("ETag", `"`+sum([]byte(text)).String()+`"`)
	http.ServeContent(w, req, "", time.Time{}, strings.NewReader(text))
}

// serveFile serves a regular file of the repository; tag is its ETag, "" for one
// that tells this very file.
func (r *Repo) serveFile(w http.ResponseWriter, req *http.Request, name, tag string) error {
	f, err := r.openInside(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		return pathError("stat", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fs.ErrNotExist
	}
	if tag == "" {
		tag = fmt.Sprintf(`"%x-%x-%x"`, st.Ino, st.Size, st.Mtim.Nano())
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", tag)
	http.ServeContent(w, req, "", time.Unix(st.Mtim.Unix()), f)
	return nil
}

// openInside opens a file of the repository whose path has no symbolic link in
// it. What is no regular file is not waited for.
func (r *Repo) openInside(name string) (*os.File, error) {
	dir := r.dir
	for {
		folder, rest, more := strings.Cut(name, "/")
		if !more {
			break
		}
		fd, err := openat(dir, folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if dir != r.dir {
			unix.Close(dir)
		}
		if err != nil {
			return nil, notThere(err)
		}
		dir, name = fd, rest
	}
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if dir != r.dir {
		unix.Close(dir)
	}
	if err != nil {
		return nil, notThere(err)
	}
	return unix.NewFile(fd, name), nil
}

// notThere lets what is a link, or below a file, not exist.
func notThere(err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ENXIO) {
		return fs.ErrNotExist
	}
	return err
}
