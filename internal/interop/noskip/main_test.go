package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	const (
		pass   = `{"Action":"pass","Package":"github.com/okd-project/okd-streams/ostree","Test":"TestA","Elapsed":0.1}` + "\n"
		skip   = `{"Action":"output","Package":"github.com/okd-project/okd-streams/ostree","Test":"TestB","Output":"needs [x]\n"}` + "\n" + `{"Action":"skip","Package":"github.com/okd-project/okd-streams/ostree","Test":"TestB"}` + "\n"
		fail   = `{"Action":"fail","Package":"github.com/okd-project/okd-streams/ostree","Test":"TestC"}` + "\n"
		noTest = `{"Action":"skip","Package":"github.com/okd-project/okd-streams/internal/docs"}` + "\n"
	)
	for _, tc := range []struct {
		name, input, allowed, want string
	}{
		{"passed", pass + noTest, "", ""},
		{"skipped", pass + skip, "", "skipped: ostree TestB"},
		{"allowed", pass + skip, "# none\nostree TestB: no such kernel\n", ""},
		{"allowed without a reason", pass + skip, "ostree TestB\n", "no reason"},
		{"failed", pass + fail, "", "failed: ostree TestC"},
		{"nothing ran", noTest, "", "no test ran"},
		{"empty", "", "", "no test ran"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "allowed")
			require.NoError(t, os.WriteFile(file, []byte(tc.allowed), 0o600))
			err := run([]string{file}, strings.NewReader(tc.input), t.Output())
			if tc.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, tc.want)
			}
		})
	}
}

func TestSlowest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "allowed")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var input, output strings.Builder
	for i := range 30 {
		fmt.Fprintf(&input, `{"Action":"pass","Package":"p","Test":"Test%d","Elapsed":%d}`+"\n", i, i)
	}
	input.WriteString(`{"Action":"pass","Package":"p","Test":"Test29/part","Elapsed":29}`)
	require.NoError(t, run([]string{file}, strings.NewReader(input.String()), &output))
	require.True(t, strings.HasPrefix(output.String(), "slow p Test29 (29.0 s)\nslow p Test28 (28.0 s)\n"), output.String())
	require.Equal(t, 25, strings.Count(output.String(), "slow p "))
}
