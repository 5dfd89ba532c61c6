package githubcmd

import (
	"context"

	"github.com/okd-project/okd-streams/publish/github"
	"github.com/okd-project/okd-streams/stream"
)

// ClientOptions say where [Client] asks, and as whom. Nil is the default.
type ClientOptions struct {
	API       string // "": [github.DefaultAPI]
	TokenFile string // "": the definition's credentials, GITHUB_TOKEN, GH_TOKEN
	Secrets   string // folder with the definition's secrets; "": none
}

// Client makes a client for other commands, with credentials as this one finds
// them. def may be nil.
func Client(ctx context.Context, repository string, def *stream.GitHub, opts *ClientOptions) (*github.Client, error) {
	if opts == nil {
		opts = &ClientOptions{}
	}
	a := &access{repository: repository, def: def, api: opts.API, tokenFile: opts.TokenFile, secrets: opts.Secrets}
	return a.client(ctx, nil)
}
