// Package open turns what users write on a command line into backends. It is
// the only package that imports all of them: programs use it, libraries take
// a [publish.Store] or [publish.Registry].
//
//	Stores:      dir:PATH                    a folder
//	             mem:                        a new, empty store in memory
//	             s3://BUCKET[/PREFIX][?…]    a bucket, see s3store.ParseURL
//	             https://HOST[:PORT][/PATH]  what a web server has, to be read; also http:
//	Registries:  dir:PATH, oci:PATH          a folder of OCI layouts
//	             docker://HOST[:PORT][/PATH] a registry over HTTP
//	             docker://                   whichever registry a reference names
//
// [Transport] makes what carries their requests, with proxies and certificates.
//
// Paths are relative to the working directory unless they begin with a slash.
package open
