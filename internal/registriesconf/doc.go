// Package registriesconf says from where an image may be pulled: it reads the
// part of containers-registries.conf(5) that decides it, and the mirror sets of
// an OpenShift cluster, and gives the repositories to try for one repository,
// in order.
//
// # registries.conf
//
// Of version 2 of the format: [[registry]] tables with prefix, location,
// insecure, blocked, mirror-by-digest-only and mirror (location, insecure,
// pull-from-mirror), wildcards "*.example.com" as prefix, and
// credential-helpers. Drop-in files replace tables of the same prefix. Short
// names (unqualified-search-registries, aliases, short-name-mode) do not matter
// here: references are complete. Version 1 is refused.
//
// A key that is not known is an error within a [[registry]] table, where it
// might say "not from there", and ignored elsewhere. Podman ignores both.
//
// The reader knows the TOML of such files: tables, arrays of tables, dotted and
// quoted keys, strings on one line, booleans, arrays and inline tables. Numbers
// and dates are skipped, strings over several lines are refused with
// [errors.ErrUnsupported]. It is our own because its cost is in proportion to the
// file: go-toml 2.4 takes a minute for 256 KiB of table headers, BurntSushi's
// 1.6 as long for one dotted key of 32 KiB. Both agree with it on what is TOML,
// and so does skopeo.
//
// # Mirror sets
//
// ImageDigestMirrorSet and ImageTagMirrorSet (config.openshift.io/v1) and
// ImageContentSourcePolicy (operator.openshift.io/v1alpha1), alone or in lists,
// as the machine-config operator writes them into a node's registries.conf:
// those of one source become one list that keeps the order of each, for digests
// or tags alone; NeverContactSource blocks the source.
//
// # Differences from podman and oc, on purpose
//
//   - A prefix example.com does not match example.com:5000. Podman's does, and
//     says that nobody should rely on it.
//   - NeverContactSource also covers tables below its source that have no
//     mirrors of their own.
//   - A location without a host, or one that is no repository, is an error
//     when it is read, not when it is used.
//   - oc's --idms-file uses its mirrors for tags too, in the order of the file.
//   - A prefix with a tag or digest matches nothing, as with podman, which looks
//     tables up by repository.
package registriesconf
