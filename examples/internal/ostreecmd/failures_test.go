package ostreecmd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFailures: faults that people make, what they are told and the exit code.
// Each text ends with what to do next, and nothing is on standard output.
func TestFailures(t *testing.T) {
	workFolder(t)
	initRepo(t, "archive")
	okd(t, "--repo=repo", "commit", "-b", "os", "--timestamp=@0", "--owner-uid=0", "--owner-gid=0", "--no-xattrs", "tree")
	okd(t, "--repo=repo", "commit", "-b", "os", "--timestamp=@0", "--owner-uid=0", "--owner-gid=0", "--no-xattrs", "-s", "again", "tree")
	okd(t, "--repo=repo", "refs", "--create=also", "os")
	okd(t, "--repo=repo", "refs", "--create=alias", "--alias", "also")
	okd(t, "--repo=empty", "init", "--mode=archive")
	okd(t, "--repo=damaged", "init", "--mode=archive")
	okd(t, "--repo=damaged", "commit", "-b", "os", "--timestamp=@0", "--owner-uid=0", "--owner-gid=0", "--no-xattrs", "tree")
	motd := strings.Fields(okd(t, "--repo=damaged", "ls", "-C", "os", "/etc/motd"))[4]
	require.NoError(t, os.WriteFile(filepath.Join("damaged/objects", motd[:2], motd[2:]+".filez"), []byte("x"), 0o644))
	for name, text := range map[string]string{"skip": "/not/there\n", "modes": "rwx /etc\n", "modes2": "2048 /not/there\n", "list": "os", "badkey": "x\n"} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	require.NoError(t, os.Mkdir("folder", 0o755))

	got := script(t, map[string]string{
		"secret": "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==",
		"public": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		"zeros":  strings.Repeat("0", 64),
	}, `
		nonsense
		refs
		refs --nonsense
		--repo=nowhere refs
		--repo=folder refs
		--repo=repo refs -o xml
		--repo=repo refs --delete
		--repo=repo refs --create=x
		--repo=repo refs --create=os os
		--repo=repo refs --create=../x os
		--repo=repo refs --create=x nowhere
		--repo=repo refs --create=x --alias nowhere
		--repo=repo refs --delete also
		--repo=repo refs --collections
		--repo=repo init --mode=bare-naked
		--repo=repo init --mode=bare-user
		--repo=x/y init --mode=archive
		--repo=repo config get core
		--repo=repo config get core.nothing
		--repo=repo config set core.mode nonsense
		--repo=repo config put core.mode archive
		--repo=repo commit tree
		--repo=repo commit -b ../x tree
		--repo=repo commit -b x nowhere
		--repo=repo commit -b x --tree=zip=tree
		--repo=repo commit -b x --tree=cosa=folder
		--repo=repo commit -b x --tree=tar=nowhere.tar
		--repo=repo commit -b x --tree=tar=body tree
		--repo=repo commit -b x --tree=ref=nowhere
		--repo=repo commit -b x --parent=os tree
		--repo=repo commit -b x --add-metadata=k=uint32 tree
		--repo=repo commit -b x --add-metadata-string=k tree
		--repo=repo commit -b x --keep-metadata=k tree
		--repo=repo commit -b os --keep-metadata=k tree
		--repo=repo commit -b x --timestamp=soon tree
		--repo=repo commit -b x --skip-list=skip tree
		--repo=repo commit -b x --statoverride=modes tree
		--repo=repo commit -b x --statoverride=modes2 tree
		--repo=repo commit -b x --canonical-permissions --owner-uid=7 tree
		--repo=repo commit -b x --owner-uid=5000000000 tree
		--repo=repo commit -b x --fsync=maybe tree
		--repo=repo commit -b x --bootable tree/etc
		--repo=repo commit -b x --sign=secret tree
		--repo=repo commit -b x --gpg-sign=0123456789ABCDEF tree
		--repo=repo commit -b x --sign-type=dummy --sign=x tree
		--repo=repo commit -b x --editor tree
		--repo=repo checkout
		--repo=repo checkout nowhere out
		--repo=repo checkout os folder
		--repo=repo checkout os x/y
		--repo=repo checkout --subpath=/nowhere os out
		--repo=repo checkout --union --union-add os out
		--repo=repo checkout --union-identical os out
		--repo=repo checkout -UH --subpath=/usr/lib os out
		--repo=repo checkout --from-file=list out
		--repo=damaged checkout -U os out
		--repo=repo ls os /nowhere
		--repo=repo ls os /etc/motd/x
		--repo=repo cat os /etc
		--repo=repo cat os /nowhere
		--repo=repo cat -o json os /etc/motd
		--repo=damaged cat os /etc/motd
		--repo=repo log nowhere
		--repo=repo show --print-metadata-key=nothing os
		--repo=repo show --print-detached-metadata-key=nothing os
		--repo=repo show %zeros
		--repo=repo show --print-sizes os
		--repo=repo rev-parse os^^
		--repo=repo rev-parse
		--repo=repo rev-parse --single
		--repo=empty rev-parse --single
		--repo=repo diff os nowhere
		--repo=repo diff os ./nowhere
		--repo=repo diff --stats os
		--repo=repo reset nowhere os
		--repo=repo reset os nowhere
		--repo=damaged fsck -q
		--repo=repo fsck --delete
		--repo=repo fsck -q --verify-bindings
		--repo=repo prune --keep-younger-than=whenever
		--repo=repo prune --delete-commit=os
		--repo=repo prune --delete-commit=%zeros
		--repo=repo prune --delete-commit=os --no-prune
		--repo=repo prune --only-branch=nowhere
		--repo=repo prune --retain-branch-depth=os
		--repo=repo prune --commit-only
		--repo=empty pull-local nowhere
		--repo=empty pull-local repo
		--repo=empty pull-local repo nowhere
		--repo=empty pull-local damaged
		admin status
		--repo=repo gpg-sign os KEY
		--repo=repo summary
		--repo=repo summary --view
		--repo=repo summary --update --gpg-sign=KEY
		--repo=repo summary --update --add-metadata=k
		--repo=repo static-delta generate os
		--repo=repo static-delta nonsense
		--repo=repo static-delta show os
		--repo=repo static-delta show %zeros
		--repo=repo static-delta apply-offline nowhere
		--repo=repo remote refs origin
		--repo=repo remote add origin
		--repo=repo remote add ../x http://localhost/
		--repo=repo remote add origin metalink=http://localhost/
		--repo=repo remote add origin http://localhost/ --set=x
		--repo=repo remote add origin http://localhost/ --sign-verify=dummy=inline:x
		--repo=repo remote add origin http://localhost/ --custom-backend=x
		--repo=repo remote delete nowhere
		--repo=repo remote show-url nowhere
		--repo=repo remote gpg-import nowhere
		--repo=repo remote gpg-import nowhere --keyring=badkey
		--repo=repo pull
		--repo=repo pull nowhere
		--repo=repo pull nowhere:os more
		--repo=repo pull nowhere --http-header=secret
		--repo=repo pull nowhere --require-static-deltas
		--repo=repo pull nowhere --network-retries=-1
		--repo=repo commit -b x -P tree
		--repo=repo commit -b x -P --tree=tar=x.tar
		--repo=repo commit -b x --selinux-policy=tree -P tree
		--repo=repo sign os
		--repo=repo sign os public
		--repo=repo sign --verify os %public
		--repo=repo sign --verify --sign-type=gpg --keys-file=badkey os
		--repo=repo sign --delete os %public
		--repo=repo export nowhere
		--repo=repo export --subpath=/nowhere os
		--repo=repo export -o x/y os
	`)
	for _, part := range strings.Split(strings.TrimSpace(got), "\n\n") {
		require.Regexp(t, `(?s)^\$ [^\n]*\n(Validating refs.*\n)?\[[123]\] okd-streams: .*\n  \S.*$`, part)
	}
	golden(t, "failures.golden", got)
}
