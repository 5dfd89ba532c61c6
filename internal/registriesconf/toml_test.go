package registriesconf_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/registriesconf"
)

// tomlTexts are documents and whether they are TOML that is understood.
var tomlTexts = map[string]bool{
	"":                                       true,
	"# comment":                              true,
	"\n\r\n \t# x\r\n":                       true,
	"a=1":                                    true,
	"a = 1 # x\nb=-1.5e+3":                   true,
	"a = 1979-05-27T07:32:00Z":               true,
	"a = inf\nb = +nan":                      true,
	`"a b" = "x"`:                            true,
	`'a"b' = 'c:\x'`:                         true,
	`a.b."c.d" = true`:                       true,
	"a . b = 1":                              true,
	`a = "\t\u00e9\U0001F600\""`:             true,
	"a = []":                                 true,
	"a = [1, 'x', [true], {b=1},]":           true,
	"a = [ # x\n 'y', # z\n\n 'w'\n]":        true,
	"a = {}":                                 true,
	"a = {b = 1, c.d = [{e='f'}]}":           true,
	"[a]\nx=1\n[a.b]\nx=1":                   true,
	"[a.b]\nx=1\n[a]\nx=1":                   true,
	"[[a]]\n[[a]]\nx=1\n[a.b]\ny=1\n[[a.c]]": true,
	"[ a . 'b' ]":                            true,
	"a.b=1\na.c=2":                           true,
	"[a]\nb.c=1\nb.d=2\n[a.e]":               true,
	"[fruit]\napple.color=1\n[fruit.apple.x]": true,

	"a":                                     false,
	"a=":                                    false,
	"a=1 b=2":                               false,
	"=1":                                    false,
	"a=true1":                               false,
	"a=True":                                false,
	"a=x":                                   false,
	"a='x":                                  false,
	"a=\"x\n\"":                             false,
	`a="\q"`:                                false,
	`a="\u12"`:                              false,
	`a="\ud800"`:                            false,
	`a="\U00110000"`:                        false,
	"a=[1":                                  false,
	"a=[1 2]":                               false,
	"a=[,]":                                 false,
	"a={b=1":                                false,
	"a={b=1,\nc=2}":                         false,
	"a=1\na=2":                              false,
	"a={b=1,b=2}":                           false,
	"a=1\n[a]":                              false,
	"[a]\n[a]":                              false,
	"[[a]]\n[a]":                            false,
	"[a]\n[[a]]":                            false,
	"a=[]\n[[a]]":                           false,
	"a={}\n[a.b]":                           false,
	"a={}\na.b=1":                           false,
	"a.b=1\na=1":                            false,
	"[fruit]\napple.color=1\n[fruit.apple]": false,
	"[a.b.c]\n[a]\nb.d=1":                   false,
	"[a":                                    false,
	"[a]]":                                  false,
	"[[a]":                                  false,
	"[]":                                    false,
	"[a]x=1":                                false,
	"a..b=1":                                false,
	"# \x01":                                false,
	"a='\x7f'":                              false,
	"a=\"\xff\"":                            false,
	"a\n=1":                                 false,
}

func TestTOML(t *testing.T) {
	t.Parallel()
	for text, want := range tomlTexts {
		_, err := registriesconf.New([]registriesconf.File{{Name: "x", Data: []byte(text)}}, nil)
		require.Equal(t, want, err == nil, "%q: %v", text, err)
	}
	for text, want := range map[string]string{
		"\n\na=": "line 3", "a='x'\n\n[b\n": "line 3", "a=[\n1\n\n2]": "line 4",
		"a=\"\"\"x\"\"\"": "several lines", "a=" + strings.Repeat("[", 100): "more than 32 levels",
		strings.Repeat("a.", 100) + "a=1": "more than 32 parts", "a = " + strings.Repeat("{a=", 100): "more than 32 levels",
	} {
		_, err := registriesconf.New([]registriesconf.File{{Name: "x", Data: []byte(text)}}, nil)
		require.ErrorContains(t, err, want, "%.60q", text)
	}
}
