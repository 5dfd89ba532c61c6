// Package open turns a URL into a backend. It is the only room that imports all
// of them; a program that needs one imports that one.
package open
