// Package github publishes releases on GitHub: a draft is made, its assets are
// uploaded and checked, and only then it is published, in one request that also
// decides whether it is the repository's latest.
//
// [Client.Publish] does all of it; [Client.Prepare] stops before the last step,
// for those whose gates come between, and [Client.Discard] takes a draft back.
// Each looks first at what is there, so that a run that was killed, on this
// machine or another, goes on where it was, and one over a finished release
// changes nothing: a draft of the tag is found and taken on, whole assets stay,
// half-uploaded ones (state "starter", or of another size or digest) are deleted
// and sent again. What is published is never replaced: an asset that would be
// another one is an error.
//
// An asset counts once GitHub's own record of it has the size and SHA-256 of
// what was to be sent; a server that keeps no digests gives the bytes back to be
// hashed.
//
// Requests carry a token, or that of an App's installation, made from a signed
// JSON web token and renewed before it ends. Credentials go to the API's host
// and its host for uploads alone, and are in no error, log or result. A clock
// that is wrong costs nothing: GitHub's own is used after the first refusal.
//
// Requests are repeated by the module's one policy. GitHub's limits are brought
// into it: a request refused for the primary limit (x-ratelimit-remaining: 0) or a
// secondary one (retry-after, with status 403 too) is sent again when GitHub says
// so, up to [ClientOptions].MaxWait.
//
// The API is the one of https://docs.github.com/rest/releases, version
// 2022-11-28; the tests hold each request, and each answer of their server, to
// GitHub's OpenAPI description.
package github
