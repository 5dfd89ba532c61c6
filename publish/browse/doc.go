// Package browse makes pages of what a store holds: its streams, their builds
// and artifacts, for people who look for a file or wonder what a build was.
//
//	index.html                  the streams, with the newest build of each
//	readiness.html, graph.html  whether streams are ready, and their updates, if given
//	STREAM/index.html           the newest builds; page-2.html and so on have older ones
//	STREAM/builds/BUILD.html    a build: images, artifacts, gates, of each architecture
//
// A [Site] answers requests for these pages ([Site.ServeHTTP]), each made from
// the store when it is asked for, or gives all of them ([Site.Pages]) to be
// written to a folder or a bucket ([Site.Write]). Pages are static: no script,
// nothing that is fetched, links relative to the page, so that they also work
// from a folder. The same store gives the same bytes.
//
// A page costs one document of the stream, and a few for each build on it;
// thousands of builds are as many pages, never one long one. What the store
// holds may be hostile and is escaped; a document that cannot be read is said to
// be so on the page and hides nothing else.
package browse
