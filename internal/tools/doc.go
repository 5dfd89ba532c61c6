// Package tools pins the programs that check this project, in a module of its
// own so that their requirements are not the library's. Run one from the
// project's root with
//
//	go tool -modfile=internal/tools/go.mod staticcheck ./...
package tools
