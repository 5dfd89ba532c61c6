package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write golden files")

// TestFailures: faults that people make with each command, what they are told
// and the exit code. Each text ends with what to do next, and there is no result.
func TestFailures(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) { require.NoError(t, os.WriteFile(name, []byte(text), 0o644)) }
	write("faults.yaml", "apiVersion: streams.okd.io/v1alpha1\nkind: Stream\nidentity: {nam: x}\nversion: 4.22\n")
	write("junk", "junk")
	write("auth.json", "{}")
	t.Setenv("OKD_STREAMS_AUTHFILE", "auth.json")
	write("graph.json", `{"nodes":[{"version":"1.0.0","payload":"x"}],"edges":[[0,7]]}`)
	write("policy.yaml", "nonsense: true\n")
	require.NoError(t, os.MkdirAll("tree/usr", 0o755))
	require.NoError(t, os.Mkdir("folder", 0o755))
	write("folder/file", "x")
	zeros := strings.Repeat("0", 64)
	write("empty", "")
	require.NoError(t, os.Mkdir("empty.d", 0o755))
	// What a build makes, and a copy in which a manifest is another.
	code, _, stderr := call(t, "build", "--state", "made", "--quiet")
	require.Zero(t, code, stderr)
	const release = "localhost/sample/sample-release:0.0.0-sample.20261125"
	layout := filepath.Join("made", "registry", "sample", "sample-release")
	require.NoError(t, os.CopyFS("damaged", os.DirFS(layout)))
	blobs, err := filepath.Glob("damaged/blobs/sha256/*")
	require.NoError(t, err)
	require.NotEmpty(t, blobs)
	for _, blob := range blobs {
		data, err := os.ReadFile(blob)
		require.NoError(t, err)
		require.NoError(t, os.Chmod(blob, 0o644))
		require.NoError(t, os.WriteFile(blob, append(data, ' '), 0o644))
	}
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(refuses.Close)
	port := strings.TrimPrefix(refuses.URL, "http://")

	var got strings.Builder
	for line := range strings.Lines(`
		nonsense
		buld
		build --nonsense
		build nonsense
		build --stream nowhere
		build --stream faults.yaml
		build --stream ./none.yaml
		build --stream okd-scos-next --state state
		build --stream okd-fcos-stable --version 4.16.0 --state state
		build --stream okd-fcos-stable --state state
		build --source dir:none --state state
		build --source tar:junk --state state
		build --source ostree:none:os --state state
		build --source rpm:x --state state
		build --version one --state state
		build --arch vax --state state
		build --gate lint --state state
		build --component console --state state
		build --component console=UPPER --state state
		build --disk qemu --state state
		build --store ftp://x --state state
		build --store s3:// --state state
		build --registry docker://registry.example/x --state state
		build --registry dir:junk --state state
		build --build 1 --state state
		build --disk metal=junk --state state
		build --source dir:junk --state state
		build --source ostree:made/repo:none --state state
		build --state junk
		build --results-dir junk --state state
		ostree --repo=none commit --branch=x tree
		ostree --repo=made/repo commit --branch=x --tree=tar=junk
		ostree --repo=made/repo reset sample/x86_64/sample ZEROS
		ostree --repo=made/repo static-delta apply-offline junk
		build --max-layers -1 --state state
		stream lint faults.yaml
		stream lint none.yaml
		stream lint --online none.yaml
		stream lint -o xml faults.yaml
		stream show nowhere
		stream diff okd-scos-next
		stream init --from nowhere new.yaml
		stream init --from-release UPPER new.yaml
		stream init junk
		stream init --from sample missing/new.yaml
		stream lint junk
		stream init --from-release PORT/okd/release:1 new.yaml
		stream bump --to 4 faults.yaml
		stream status nowhere
		stream status --now yesterday sample
		stream status --store ftp://x sample
		ostree --repo=none refs
		ostree --repo=folder fsck
		container inspect UPPER
		container inspect oci:none
		container inspect PORT/x:y
		container inspect oci:LAYOUT:none
		container inspect oci:damaged
		container inspect oci:none
		container encapsulate --repo=made/repo none oci:out
		container encapsulate --repo=made/repo --compression=lzma sample/x86_64/sample oci:out
		container remove --repo=made/repo none
		container node render junk
		bootimage find none.json
		bootimage find junk
		bootimage check PORT
		bootimage check --key junk graph.json
		bootimage find builds:folder
		bootimage mirror builds:folder
		bootimage mirror --dir folder auth.json
		bootimage download --stream-base-url x
		bootimage compress none
		bootimage convert none aws
		bootimage uncompress junk
		disk probe none
		disk probe folder
		disk stamp junk
		disk convert junk qemu:x
		payload info UPPER
		payload info --from dir:folder localhost/x:y
		payload info --from dir:none localhost/x:y
		payload info PORT/x:y
		payload verify --from dir:folder localhost/x@sha256:ZEROS
		payload info --from dir:made/registry localhost/sample/sample-coreos:latest
		payload info --from dir:made/registry --image-for none RELEASE
		payload extract --from dir:made/registry --file none RELEASE
		payload extract --from dir:made/registry --to junk RELEASE
		payload sign --from dir:made/registry --key junk RELEASE
		payload verify --from dir:made/registry RELEASE
		payload verify --from dir:made/registry --key junk RELEASE
		payload mirror --from dir:made/registry RELEASE UPPER
		payload swap --from dir:made/registry RELEASE nonsense
		payload new
		payload new --version x console=x@sha256:ZEROS
		payload unbundle --from archive:junk --to folder x.example/y
		payload build --state state
		payload build --state state --scratch --list none.yaml
		payload build --state state --scratch --list policy.yaml
		payload build --state state --scratch --use-plan none.json
		payload build --state state --from dir:folder localhost/x:y
		graph show none.json
		graph show junk
		graph show graph.json
		graph path graph.json 1.0.0
		graph serve --listen nowhere graph.json
		gate show
		gate record --results dir:results --release x --digest sha256:ZEROS lint=green
		release list
		release promote --stream sample
		release abort 1.0.0
		github list
		notify --stream sample --occasion nonsense
		prow watch x
		prow tag x/y
		actions render sample
		actions render --image x sample
		actions render --image x@sha256:ZEROS okd-scos-next
		actions render --image x@sha256:ZEROS --input x sample
		actions render --image x@sha256:ZEROS --check sample
		status
		status 4-stable
		status --controller PORT 4-stable
		status --results dir:missing sample
		status --controller http://PORT 4-stable
		prune
		prune --store dir:folder --policy policy.yaml --stream x
		prune --store dir:missing --policy policy.yaml --stream x
		prune --store dir:folder --policy none.yaml --stream x
		image build x@sha256:ZEROS
		image build --binary junk localhost/x:y
		image build --registry dir:junk localhost/x:y
		serve
		serve --pages nowhere
		serve --pages junk
		serve --pages folder --listen 127.0.0.1:99999
		serve --pages folder --listen PORT
		serve --registry dir:missing
		serve --store dir:missing
		serve --pages folder --listen 0.0.0.0:80
		serve --ostree folder --listen 127.0.0.1:0
		serve --graph graph.json --listen 127.0.0.1:0
		browse
		browse --state none
		browse --store dir:missing --out dir:folder
		browse --store dir:folder --out nowhere
		browse --store dir:folder --out dir:folder/pages --per-page 0
		browse --store dir:folder --out dir:folder/pages --graph junk
		browse --store dir:folder --out dir:folder/pages --status junk
		browse --store dir:folder --out dir:folder/pages no-such-stream
		tekton nonsense
		tekton render sample
		tekton render --image localhost/x:y sample
		tekton render --image localhost/x@sha256:ZEROS --platform vms sample
		tekton render --image localhost/x@sha256:ZEROS okd-scos-next
		tekton render --image localhost/x@sha256:ZEROS --param x=y sample
		tekton render --image localhost/x@sha256:ZEROS --output folder sample
		tekton check none.yaml
		tekton check junk
		tekton check empty
		tekton check empty.d
		tekton run junk
		tekton lock --stream sample
		tekton lock --stream sample --holder x --store ftp://x
		tekton lock --stream sample --holder x --ttl 1s --store dir:leases
		tekton pick --stream sample
		tekton install not-here
		man junk
		version x
		help junk
		completion junk
	`) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		command := strings.NewReplacer("ZEROS", zeros, "PORT", port, "LAYOUT", layout, "RELEASE", release).Replace(line)
		code, stdout, stderr := call(t, strings.Fields(command)...)
		said := strings.ReplaceAll(stderr, dir, "DIR")
		said = strings.ReplaceAll(said, zeros, "ZEROS")
		said = strings.ReplaceAll(said, port, "PORT")
		said = regexp.MustCompile(`[0-9a-f]{64}`).ReplaceAllString(said, "HEX")
		said = regexp.MustCompile(`/tmp/[^ :]*`).ReplaceAllString(said, "TMP")
		require.NotZero(t, code, line)
		require.Empty(t, stdout, line)
		require.Regexp(t, `(?s)okd-streams: .*\n  \S[^\n]*\n$`, stderr, line)
		fmt.Fprintf(&got, "$ okd-streams %s\n%s[%d]\n\n", line, said, code)
	}
	require.NoFileExists(t, "new.yaml")
	require.NoDirExists(t, "missing")

	// Stopped in the middle.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, run(ctx, []string{"build", "--state", "state", "--quiet"}, nil, nil), context.Canceled)

	golden := filepath.Join(testdata, "failures.golden")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

// testdata is found before the test goes elsewhere.
var testdata = func() string {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		panic(err)
	}
	return dir
}()
