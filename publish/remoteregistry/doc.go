// Package remoteregistry is a [publish.Registry] over the OCI distribution
// protocol (distribution-spec v1.1, and the Docker registry v2 servers before
// it).
//
// # Writing
//
// A manifest that is there already ends the matter in one request. Otherwise
// each blob is looked for, then mounted from one of [publish.WriteOptions.From]
// with a token for both repositories, and only then uploaded: in one PUT up to
// [MonolithicSize], by PATCH above it. Blobs that several calls want at the
// same time move once. A PATCH that breaks off is continued where the server
// says it stopped; a server that has forgotten the upload, or refuses to go on
// with it as Docker's registry does, gets it from the start. Every byte is
// verified on its way out, and an upload whose bytes turn out wrong is cancelled
// before it is given a digest. The manifest comes last, by digest.
// [Registry.WriteStream] takes what has no digest yet.
//
// # Reading
//
// Everything is fetched by digest and verified before the end of it is
// reported. A blob that breaks off is asked for from there on. Tags are resolved
// once, when a method is called. [Options.Mirrors] may name other places.
//
// # Referrers
//
// The referrers API is used where a server has it; where it has none, the index
// under a tag that stands in for it is read and kept ([Registry.Referrers]).
// [AttachedTag] names what cosign attaches.
//
// # Hostile servers
//
// Documents are read up to 4 MiB (manifests) and 8 MiB (pages of a list), lists
// up to a million tags, ten million repositories, a hundred thousand referrers
// and as many pages. The next page of a list must be on the same server, and
// new. Credentials go to no other host, wherever a server redirects to.
//
// # Credentials
//
// They are found by the rules of containers-auth.json(5), for the repository
// and then for what is above it, and are sent to that registry and its token
// server alone. Nothing here reads the environment: [AuthFiles] gives the list
// of files for a program that wants podman's behaviour.
//
// # Plain HTTP
//
// Loopback hosts (localhost, 127.0.0.0/8, ::1, *.localhost) are tried with
// HTTPS, then without. Every other host gets HTTPS only, unless it is named in
// [Options.Insecure]. That holds for redirects too.
package remoteregistry
