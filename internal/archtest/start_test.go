package archtest_test

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// costly are packages that take long when a program that has them starts, and
// what instead.
var costly = map[string]string{
	"github.com/olareg/olareg":                         "a bcrypt hash, 60 ms",
	"golang.org/x/crypto/bcrypt":                       "whoever hashes when it is initialised",
	"golang.org/x/crypto/x509roots/fallback":           "parses all roots; its package bundle does not",
	"google.golang.org/protobuf/reflect/protoregistry": "registers each type",
	"k8s.io/apimachinery/pkg/runtime":                  "registers each type",
}

// TestStart keeps a program that is called for one thing, such as its version,
// from paying for all others when it starts.
func TestStart(t *testing.T) {
	_, ours := packages(t)
	programs := 0
	for _, p := range ours {
		if p.Name == "main" && under(p.room(), "examples") {
			programs++
			for _, path := range append([]string{p.ImportPath}, p.Deps...) {
				if why, bad := costly[path]; bad {
					t.Errorf("%s has %s: %s", p.room(), path, why)
				}
			}
		}
		if !p.library() && !under(p.room(), "examples") {
			continue
		}
		fset, files := parse(t, p.Dir, p.GoFiles, 0)
		for _, f := range files {
			for _, call := range atStart(f) {
				t.Errorf("%s: %s when the program starts: use internal/lazyregexp, or sync.OnceValue", fset.Position(call.Pos()), calls(call))
			}
		}
	}
	require.GreaterOrEqual(t, programs, 3)
}

// slow are calls that compile something.
var slow = []string{"regexp.MustCompile", "template.Must"}

// atStart finds the slow calls that initialise variables of a package.
func atStart(f *ast.File) []*ast.CallExpr {
	var found []*ast.CallExpr
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
			ast.Inspect(g, func(n ast.Node) bool {
				if _, later := n.(*ast.FuncLit); later {
					return false
				}
				if call, ok := n.(*ast.CallExpr); ok && slices.Contains(slow, calls(call)) {
					found = append(found, call)
				}
				return true
			})
		}
	}
	return found
}

// calls is PACKAGE.NAME of a call; "": another kind of call.
func calls(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		if pkg, ok := s.X.(*ast.Ident); ok {
			return pkg.Name + "." + s.Sel.Name
		}
	}
	return ""
}

// TestLazyPatterns compiles the patterns that are compiled when they are first
// used: nobody may find out then that one is none.
func TestLazyPatterns(t *testing.T) {
	_, ours := packages(t)
	n := 0
	for _, p := range ours {
		fset, files := parse(t, p.Dir, p.GoFiles, 0)
		for _, f := range files {
			ast.Inspect(f, func(node ast.Node) bool {
				call, ok := node.(*ast.CallExpr)
				if !ok || calls(call) != "lazyregexp.New" {
					return true
				}
				n++
				lit, ok := call.Args[0].(*ast.BasicLit)
				require.True(t, ok, "%s: not a literal", fset.Position(call.Pos()))
				pattern, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				_, err = regexp.Compile(pattern)
				require.NoError(t, err, "%s", fset.Position(call.Pos()))
				return true
			})
		}
	}
	require.Greater(t, n, 50)
}
