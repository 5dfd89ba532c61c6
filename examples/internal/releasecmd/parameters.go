package releasecmd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/promotion"
	"github.com/okd-project/okd-streams/stream"
)

// parameters are those of okd-release-pipeline, all texts; what is empty leaves
// what the definition says.
type parameters struct {
	controller, stream, target, imageStream, content, release string
	github, latest, notify, room, endpoint                    string
}

// names are the parameters' names.
func (p *parameters) names() map[string]*string {
	return map[string]*string{
		"release-controller": &p.controller, "release-stream": &p.stream, "target-release-stream": &p.target, "release-imagestream": &p.imageStream,
		"content-mirror-pushspec": &p.content, "release-mirror-pushspec": &p.release, "github-org-repo": &p.github, "is-release-latest": &p.latest,
		"enable-notifications": &p.notify, "matrix-room": &p.room, "matrix-endpoint": &p.endpoint,
	}
}

// add declares them as flags.
func (p *parameters) add(set *pflag.FlagSet) {
	usage := map[string]string{
		"release-controller":      "`URL` of the release controller that accepts payloads (default: the definition's)",
		"release-stream":          "`STREAM` there that is promoted from (default: the definition's)",
		"target-release-stream":   "`STREAM` that is promoted to, whose accepted releases lead to a new one",
		"release-imagestream":     "`IMAGESTREAM` in which the release is tagged",
		"content-mirror-pushspec": "`REPOSITORY` of component images",
		"release-mirror-pushspec": "`REPOSITORY` of release images",
		"github-org-repo":         "`OWNER/NAME` on GitHub where releases are announced; none: nowhere",
		"is-release-latest":       "`true|false`: the latest release, or a pre-release",
		"enable-notifications":    "`true|false`: tell people",
		"matrix-room":             "`ROOM` of Matrix that is told",
		"matrix-endpoint":         "`HOST` of its Matrix server",
	}
	for name, value := range p.names() {
		set.StringVar(value, name, "", usage[name])
	}
}

// setParams sets flags by --param.
func (c *common) setParams(cmd *cobra.Command) error {
	for _, text := range c.params {
		name, value, ok := strings.Cut(text, "=")
		to := c.pipeline.names()[name]
		if !ok || to == nil {
			var known []string
			for n := range c.pipeline.names() {
				known = append(known, n)
			}
			slices.Sort(known)
			return ui.Usagef("--param %s: it is NAME=VALUE, NAME being one of %s", text, strings.Join(known, ", "))
		}
		if !cmd.Flags().Changed(name) {
			*to = value
		}
	}
	return nil
}

// apply puts them into settings and definition.
func (p *parameters) apply(s *promotion.Settings, def *stream.Definition) error {
	or := func(to *string, value string) {
		if value != "" {
			*to = value
		}
	}
	or(&s.Stream, p.target)
	or(&s.ImageStream, p.imageStream)
	or(&s.Content, p.content)
	or(&s.Release, p.release)
	or(&s.Announce, p.github)
	if s.Announce == "none" {
		s.Announce = ""
	}
	if p.latest != "" {
		latest, err := strconv.ParseBool(p.latest)
		if err != nil {
			return ui.Usagef("--is-release-latest %s: it is true or false", p.latest)
		}
		s.Latest, s.Prerelease = latest, !latest
	}
	if p.notify != "" {
		notify, err := strconv.ParseBool(p.notify)
		if err != nil {
			return ui.Usagef("--enable-notifications %s: it is true or false", p.notify)
		}
		s.Notify = notify
	}
	if p.room == "" && p.endpoint == "" {
		return nil
	}
	// The room in place of the definition's, with the same credentials.
	n := stream.Notification{Kind: stream.Matrix, On: []stream.Occasion{stream.OnPromotion}}
	if i := slices.IndexFunc(def.Notifications, func(n stream.Notification) bool { return n.Kind == stream.Matrix }); i >= 0 {
		n = def.Notifications[i]
	}
	or(&n.Target, p.room)
	if p.endpoint != "" {
		n.URL = "https://" + strings.TrimPrefix(p.endpoint, "https://")
	}
	if n.Target == "" || n.URL == "" {
		return ui.Usagef("a room of Matrix needs --matrix-room and --matrix-endpoint")
	}
	def.Notifications = append(slices.DeleteFunc(def.Notifications, func(n stream.Notification) bool { return n.Kind == stream.Matrix }), n)
	return nil
}

// builtins are the definitions of the streams that OKD promotes to.
var builtins = map[string]string{"4-scos-stable": "okd-scos-stable", "4-scos-next": "okd-scos-next"}

// definition is the stream's name or file.
func (c *common) definition() (string, error) {
	if c.stream != "" {
		return c.stream, nil
	}
	if which := builtins[c.pipeline.target]; which != "" {
		return which, nil
	}
	return "", fmt.Errorf("no stream: give --stream NAME, or --target-release-stream 4-scos-stable")
}
