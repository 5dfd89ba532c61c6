package archtest_test

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// parse reads files of a package's folder.
func parse(t *testing.T, dir string, names []string, mode parser.Mode) (*token.FileSet, []*ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, mode|parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
	}
	return fset, files
}

// TestPublicAPI holds what each public package exports to testdata/api.
func TestPublicAPI(t *testing.T) {
	_, ours := packages(t)
	for _, p := range ours {
		if !p.public() || p.room() == "." || under(p.room(), "examples") {
			continue
		}
		golden(t, "api/"+strings.ReplaceAll(p.room(), "/", ".")+".txt", exported(t, p))
	}
}

// exported prints the exported declarations of p, without comments and bodies.
func exported(t *testing.T, p *listed) string {
	fset, files := parse(t, p.Dir, p.GoFiles, 0)
	pkg, err := doc.NewFromFiles(fset, files, p.ImportPath)
	require.NoError(t, err)
	var text strings.Builder
	config := printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}
	print := func(decl ast.Decl) {
		if f, ok := decl.(*ast.FuncDecl); ok {
			f.Body = nil
		}
		require.NoError(t, config.Fprint(&text, token.NewFileSet(), decl))
		text.WriteString("\n")
	}
	values := func(list []*doc.Value) {
		for _, v := range list {
			print(v.Decl)
		}
	}
	funcs := func(list []*doc.Func) {
		for _, f := range list {
			print(f.Decl)
		}
	}
	values(pkg.Consts)
	values(pkg.Vars)
	funcs(pkg.Funcs)
	for _, typ := range pkg.Types {
		print(typ.Decl)
		values(typ.Consts)
		values(typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
	}
	return text.String()
}

// forbidden is what library code never does: time, randomness and settings come
// in as values, output goes out through return values, and the caller's context
// governs. A whole package is an entry without a dot after its last slash.
var forbidden = map[string]string{
	"time.Now": "time arrives as a value", "time.Since": "time arrives as a value", "time.Until": "time arrives as a value",
	"math/rand": "randomness arrives as a value", "math/rand/v2": "randomness arrives as a value", "crypto/rand": "randomness arrives as a value",
	"os.Getenv": "settings arrive as options", "os.LookupEnv": "settings arrive as options", "os.Environ": "settings arrive as options",
	"os.Stdout": "the library does not print", "os.Stderr": "the library does not print", "os.Stdin": "readers arrive as values",
	"os.Exit": "errors are returned", "os/exec": "the library starts no process",
	"fmt.Print": "the library does not print", "fmt.Printf": "the library does not print", "fmt.Println": "the library does not print",
	"log": "an optional *slog.Logger", "log/slog.Default": "an optional *slog.Logger", "log/slog.SetDefault": "an optional *slog.Logger",
	"context.Background": "the caller's context", "context.TODO": "the caller's context",
	"net/http.DefaultClient": "clients arrive as values", "net/http.Get": "requests have a context",
}

func TestForbiddenCalls(t *testing.T) {
	_, ours := packages(t)
	exempt := allow(t, "forbidden")
	for _, p := range ours {
		if !p.library() {
			continue
		}
		fset, files := parse(t, p.Dir, p.GoFiles, 0)
		for _, f := range files {
			for _, use := range usesOf(fset, f) {
				if subject := p.room() + " " + use.what; !exempt.ok(subject) {
					t.Errorf("%s: %s: %s", use.at, use.what, use.why)
				}
			}
		}
	}
}

type use struct{ at, what, why string }

// usesOf finds what f does of [forbidden], and init functions.
func usesOf(fset *token.FileSet, f *ast.File) []use {
	var found []use
	imports := make(map[string]string) // name in this file: path
	for _, spec := range f.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the compiler says so
		}
		if why, ok := forbidden[path]; ok {
			found = append(found, use{fset.Position(spec.Pos()).String(), path, why})
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = path
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				found = append(found, use{fset.Position(n.Pos()).String(), "init", "nothing happens on import"})
			}
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && imports[pkg.Name] != "" {
				what := imports[pkg.Name] + "." + n.Sel.Name
				if why, ok := forbidden[what]; ok {
					found = append(found, use{fset.Position(n.Pos()).String(), what, why})
				}
			}
		case *ast.CallExpr:
			if name, ok := n.Fun.(*ast.Ident); ok && (name.Name == "print" || name.Name == "println") {
				found = append(found, use{fset.Position(n.Pos()).String(), name.Name, "the library does not print"})
			}
		}
		return true
	})
	return found
}

func TestForbiddenCallsJudge(t *testing.T) {
	const source = `package x

import (
	"context"
	clock "time"
	"os/exec"
	"log/slog"
	"fmt"
)

func init() { println(clock.Now(), exec.ErrDot) }

func f(l *slog.Logger) string { fmt.Println(context.Background()); return fmt.Sprint(clock.Second) }
`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "x.go", source, 0)
	require.NoError(t, err)
	var got []string
	for _, u := range usesOf(fset, f) {
		got = append(got, u.what)
	}
	require.ElementsMatch(t, []string{"os/exec", "init", "println", "time.Now", "fmt.Println", "context.Background"}, got)
}

// TestPackagesAreDocumentedAndTested wants a package comment and a test file.
func TestPackagesAreDocumentedAndTested(t *testing.T) {
	_, ours := packages(t)
	exempt := allow(t, "untested")
	for _, p := range ours {
		if p.Error != nil {
			t.Errorf("%s: %s", p.room(), p.Error.Err)
			continue
		}
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment", p.room())
		}
		if len(p.TestGoFiles)+len(p.XTestGoFiles) == 0 && p.room() != "." && !exempt.ok(p.room()) {
			t.Errorf("%s has no test file", p.room())
		}
	}
}

// TestVerbsHaveExamples wants each exported verb of the public packages to be
// used in an example of its package: functions, and methods that take a context.
func TestVerbsHaveExamples(t *testing.T) {
	_, ours := packages(t)
	exempt := allow(t, "example")
	for _, p := range ours {
		if !p.public() || p.room() == "." || under(p.room(), "examples") {
			continue
		}
		_, files := parse(t, p.Dir, p.GoFiles, 0)
		_, tests := parse(t, p.Dir, slices.Concat(p.TestGoFiles, p.XTestGoFiles), 0)
		shown := usedInExamples(tests)
		for _, verb := range exportedVerbs(files) {
			if name := verb[strings.LastIndex(verb, ".")+1:]; !shown[name] && !exempt.ok(p.room()+"."+verb) {
				t.Errorf("%s.%s: no example uses it", p.room(), verb)
			}
		}
	}
}

// exportedVerbs lists F, and T.M for methods that block.
func exportedVerbs(files []*ast.File) []string {
	var verbs []string
	for _, f := range files {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !fn.Name.IsExported() {
				continue
			}
			if fn.Recv == nil {
				verbs = append(verbs, fn.Name.Name)
			} else if name := receiver(fn.Recv.List[0].Type); ast.IsExported(name) && takesContext(fn.Type) {
				verbs = append(verbs, fmt.Sprintf("%s.%s", name, fn.Name.Name))
			}
		}
	}
	return verbs
}

func receiver(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func takesContext(fn *ast.FuncType) bool {
	if len(fn.Params.List) == 0 {
		return false
	}
	sel, ok := fn.Params.List[0].Type.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "context" && sel.Sel.Name == "Context"
}

// usedInExamples collects the names that Example functions select or call.
func usedInExamples(files []*ast.File) map[string]bool {
	used := make(map[string]bool)
	for _, f := range files {
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Example") {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					used[sel.Sel.Name] = true
				}
				return true
			})
		}
	}
	return used
}
