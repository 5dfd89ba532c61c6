// Package containersauth finds registry credentials by the rules of
// containers-auth.json(5), which podman, skopeo and oc follow. They differ from
// Docker's: keys may be a registry, a namespace or a repository, the longest
// one that fits wins, and the first file with credentials for a target wins.
//
// # Order
//
// Credentials that the user gave ([Options.Given]) go before everything. Then
// come the helpers of [Options.Helpers] in turn, as credential-helpers of
// containers-registries.conf(5) lists them; the files are one of them, and the
// only one by default. In each file
//
//   - a program named for the registry under credHelpers is asked, and nothing
//     else in the file counts for that registry;
//   - the keys quay.io/okd/scos, quay.io/okd and quay.io of auths are tried, in
//     this order, for quay.io/okd/scos; the first that is there counts, even if
//     it holds no credentials;
//   - then, for the registry alone, keys in the URL forms that older versions
//     of docker login wrote, such as https://index.docker.io/v1/;
//   - then the program under credsStore is asked.
//
// A file named .dockercfg has the format from before auths: its keys are
// registries, in URL form or not.
//
// Nothing found means anonymous: a [Credentials] without content that says
// where it was looked for.
//
// # Differences
//
// Podman never asks credsStore, Docker asks it before auths and for every
// registry. Here it is asked where auths has nothing, and where it fails the
// target is anonymous, as with both, but [Credentials.Place] says so. Without
// [Options.Helper] it does not count, as with podman.
//
// Podman takes an entry that is not user:password in base64 for none, here it
// is an error if it is the one that counts.
//
// oc wants a file that the user named to exist, be it by flag or by
// $REGISTRY_AUTH_FILE; so does podman, skopeo takes it for empty. A program that
// wants it too passes it as [Options.File]. oc also runs every helper of a file
// for every question, and $REGISTRY_AUTH_PREFERENCE, which it calls deprecated,
// may put Docker's files first: [DefaultPaths] knows it. oc puts the keys of all
// files together, but looks each up file by file, so that the first file wins
// as with podman.
//
// The keys identitytoken, registrytoken, username and password of Docker's
// format are read too; podman knows the first alone.
//
// # Helpers
//
// This package runs no programs: [Options.Helper] does. A helper is asked for
// the registry, never for a namespace, and once a minute at most: a copy of many
// repositories starts one program, and one that takes hours looks again.
package containersauth
