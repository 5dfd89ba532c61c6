// Package ostree reads and writes OSTree repositories in pure Go.
package ostree
