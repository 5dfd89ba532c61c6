package lazyregexp_test

import (
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

func TestRegexp(t *testing.T) {
	const pattern = `([a-z])([0-9])`
	lazy, want := lazyregexp.New(pattern), regexp.MustCompile(pattern)
	var wg sync.WaitGroup
	for _, text := range []string{"", "a1", "xb2 c3", "no"} {
		wg.Go(func() {
			require.Equal(t, want.MatchString(text), lazy.MatchString(text))
			require.Equal(t, want.Match([]byte(text)), lazy.Match([]byte(text)))
			require.Equal(t, want.FindString(text), lazy.FindString(text))
			require.Equal(t, want.FindStringSubmatch(text), lazy.FindStringSubmatch(text))
			require.Equal(t, want.FindAllStringSubmatch(text, -1), lazy.FindAllStringSubmatch(text, -1))
			require.Equal(t, want.ReplaceAllString(text, "$2"), lazy.ReplaceAllString(text, "$2"))
			require.Equal(t, want.ReplaceAllStringFunc(text, strings.ToUpper), lazy.ReplaceAllStringFunc(text, strings.ToUpper))
		})
	}
	wg.Wait()
	require.Equal(t, pattern, lazy.String())
	none := lazyregexp.New(`(`)
	require.Panics(t, func() { none.MatchString("") })
}
