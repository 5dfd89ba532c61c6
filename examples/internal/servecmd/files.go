package servecmd

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish"
)

// pages serves a folder to be looked at, without what begins with a dot and
// without the folders hidden. A hidden store is where the store is served: the
// reports of builds name files there.
func pages(fsys fs.FS, hidden []string) http.Handler {
	server := http.FileServerFS(fsys)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i, part := range strings.Split(r.URL.Path, "/") {
			if strings.HasPrefix(part, ".") || i == 0 && slices.Contains(hidden, part) {
				if part == "store" {
					w.Header().Set("Location", (&url.URL{Path: "/" + r.URL.Path}).EscapedPath())
					w.WriteHeader(http.StatusFound)
					return
				}
				http.NotFound(w, r)
				return
			}
		}
		server.ServeHTTP(w, r)
	})
}

// objects serves a store: objects at their keys, with one range and conditions,
// and lists of what is below a prefix that ends in a slash.
type objects struct{ store publish.Store }

// ranger is what a store may have that can begin in the middle.
type ranger interface {
	OpenRange(ctx context.Context, key string, off, n int64) (io.ReadCloser, publish.Info, error)
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	key := r.URL.Path
	if key == "" || strings.HasSuffix(key, "/") {
		o.list(w, r, key)
		return
	}
	if publish.CheckKey(key) != nil {
		http.NotFound(w, r)
		return
	}
	info, err := o.store.Stat(r.Context(), key)
	if err != nil {
		fail(w, err)
		return
	}
	header := w.Header()
	if info.ContentType != "" {
		header.Set("Content-Type", info.ContentType)
	} else {
		header.Set("Content-Type", "application/octet-stream")
	}
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Accept-Ranges", "bytes")
	tag := etag(info)
	header.Set("ETag", tag)
	if sum, err := hex.DecodeString(info.SHA256); err == nil && info.SHA256 != "" { // RFC 9530
		header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum)+":")
	}
	if !info.Modified.IsZero() {
		header.Set("Last-Modified", info.Modified.UTC().Format(http.TimeFormat))
	}
	if none := r.Header.Get("If-None-Match"); none != "" && slices.ContainsFunc(strings.Split(none, ","), func(t string) bool {
		t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
		return t == "*" || t == tag
	}) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	off, n, status := wanted(r, info, tag)
	if status == http.StatusRequestedRangeNotSatisfiable {
		header.Set("Content-Range", fmt.Sprintf("bytes */%d", info.Size))
		http.Error(w, "the object is shorter", status)
		return
	}
	if r.Method == http.MethodHead {
		header.Set("Content-Length", strconv.FormatInt(n, 10))
		w.WriteHeader(status)
		return
	}
	body, opened, err := o.openAt(r.Context(), key, off, n)
	if err != nil {
		fail(w, err)
		return
	}
	defer body.Close()
	if opened.Revision != info.Revision { // replaced in between
		http.Error(w, "the object is being replaced, try again", http.StatusServiceUnavailable)
		return
	}
	header.Set("Content-Length", strconv.FormatInt(n, 10))
	if status == http.StatusPartialContent {
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, info.Size))
	}
	w.WriteHeader(status)
	if _, err := io.CopyN(w, body, n); err != nil {
		panic(http.ErrAbortHandler) // so that the reader sees that it is short
	}
}

func (o *objects) openAt(ctx context.Context, key string, off, n int64) (io.ReadCloser, publish.Info, error) {
	if store, ok := o.store.(ranger); ok && off > 0 {
		return store.OpenRange(ctx, key, off, n)
	}
	body, info, err := o.store.Open(ctx, key)
	if err != nil || off == 0 {
		return body, info, err
	}
	if _, err := io.CopyN(io.Discard, body, off); err != nil {
		return nil, info, errors.Join(err, body.Close())
	}
	return body, info, nil
}

func etag(info publish.Info) string {
	if info.SHA256 != "" {
		return `"` + info.SHA256 + `"`
	}
	return `"` + url.QueryEscape(info.Revision) + `"`
}

// wanted gives the part of an object that a request is for. Several ranges, and
// units that are not bytes, may be answered with the whole.
func wanted(r *http.Request, info publish.Info, tag string) (off, n int64, status int) {
	whole := func() (int64, int64, int) { return 0, info.Size, http.StatusOK }
	spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	if condition := r.Header.Get("If-Range"); !ok || condition != "" && condition != tag {
		return whole()
	}
	first, last, ok := strings.Cut(spec, "-")
	if !ok || strings.Contains(spec, ",") {
		return whole()
	}
	if first == "" { // the last bytes
		count, err := strconv.ParseInt(last, 10, 64)
		if err != nil || count < 0 {
			return whole()
		}
		if count == 0 || info.Size == 0 {
			return 0, 0, http.StatusRequestedRangeNotSatisfiable
		}
		count = min(count, info.Size)
		return info.Size - count, count, http.StatusPartialContent
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return whole()
	}
	to := info.Size - 1
	if last != "" {
		end, err := strconv.ParseInt(last, 10, 64)
		if err != nil || end < from {
			return whole()
		}
		to = min(to, end)
	}
	if from >= info.Size {
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	}
	return from, to - from + 1, http.StatusPartialContent
}

func fail(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, "no such object", http.StatusNotFound)
	case errors.Is(err, fs.ErrPermission):
		http.Error(w, "the store refuses", http.StatusForbidden)
	default: // what it says may name what others should not know
		http.Error(w, "the store cannot be read", http.StatusBadGateway)
	}
}

// colours are those of light and dark pages, which can be read by everybody.
const colours = `:root { color-scheme: light dark; } body { background: #fff; color: #1b1f24; } a { color: #0550ae; }
@media (prefers-color-scheme: dark) { body { background: #0f1419; color: #e6edf3; } a { color: #79b8ff; } }
`

var listPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("list").Funcs(template.FuncMap{"size": ui.Size}).Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{or .Prefix "/"}}</title>
<style>
` + colours + `body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
td { padding: .1rem 1.5rem .1rem 0; vertical-align: top; } td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; } code { font: 12px ui-monospace, monospace; overflow-wrap: anywhere; }
</style>
</head>
<body>
<main>
<h1>{{or .Prefix "/"}}</h1>
<table>
{{if .Prefix}}<tr><td><a href="../">../</a></td><td></td><td></td></tr>
{{end}}{{range .Folders}}<tr><td><a href="./{{.}}">{{.}}</a></td><td></td><td></td></tr>
{{end}}{{range .Objects}}<tr><td><a href="./{{.Name}}">{{.Name}}</a></td><td class="n">{{size .Size}}</td><td><code>{{.SHA256}}</code></td></tr>
{{end}}</table>
{{if .Cut}}<p>Only the first {{.Cut}} are shown.</p>{{end}}
</main>
</body>
</html>
`))
})

// maxListed is how many names a list has at most.
const maxListed = 10_000

type listing struct {
	Prefix  string
	Folders []string
	Objects []listed
	Cut     int
}

type listed struct {
	Name   string
	Size   int64
	SHA256 string
}

func (o *objects) list(w http.ResponseWriter, r *http.Request, prefix string) {
	if prefix != "" && publish.CheckKey(strings.TrimSuffix(prefix, "/")) != nil {
		http.NotFound(w, r)
		return
	}
	page := listing{Prefix: prefix}
	for info, err := range o.store.List(r.Context(), prefix) {
		if err != nil {
			fail(w, err)
			return
		}
		if len(page.Objects)+len(page.Folders) == maxListed {
			page.Cut = maxListed
			break
		}
		name := strings.TrimPrefix(info.Key, prefix)
		if folder, _, ok := strings.Cut(name, "/"); ok {
			if folder += "/"; !slices.Contains(page.Folders[max(0, len(page.Folders)-1):], folder) {
				page.Folders = append(page.Folders, folder)
			}
			continue
		}
		page.Objects = append(page.Objects, listed{Name: name, Size: info.Size, SHA256: info.SHA256})
	}
	if len(page.Objects)+len(page.Folders) == 0 && prefix != "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = listPage().Execute(w, page) // the reader went away
}
