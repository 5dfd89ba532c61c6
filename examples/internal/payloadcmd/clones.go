package payloadcmd

import "github.com/okd-project/okd-streams/payload"

// Clones is the history that is in a folder of clones, bare or not, each at
// HOST/PATH of its URL or under the last part of it. It runs git.
func Clones(dir string) payload.History { return clones(dir) }
