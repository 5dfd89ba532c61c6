// Package containersauth finds registry credentials by the rules of
// containers-auth.json(5), which podman, skopeo and oc follow. They differ from
// Docker's: keys may be a registry, a namespace or a repository, the longest
// one that fits wins, and the first file with credentials for a target wins.
//
// For quay.io/okd/scos/base the keys quay.io/okd/scos/base, quay.io/okd/scos,
// quay.io/okd and quay.io are tried in each file, in this order; then, for the
// registry alone, the URL forms that older versions of docker login wrote, such
// as https://index.docker.io/v1/. An entry without credentials counts as none.
//
// A registry named under credHelpers needs a program, docker-credential-NAME.
// This package runs none: the caller may pass a function that does, else the
// answer is [errors.ErrUnsupported]. credsStore, which Docker alone reads, and
// the format of ~/.dockercfg are not supported.
package containersauth
