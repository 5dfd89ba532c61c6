package bootimagecmd

import (
	"bytes"
	"fmt"
	"io"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/examples/internal/ui"
)

// compared is what compare prints.
type compared struct {
	Kind string `json:"kind"`
	// Images are those of stream metadata that differ, Changes the places of others.
	Images  []bootimage.Change      `json:"images,omitempty"`
	Changes []bootimage.FieldChange `json:"changes,omitempty"`
}

func (c *common) compare() *cobra.Command {
	return c.leaf("compare [FLAGS] OLDER NEWER", "Say what is different in the newer of two documents of a kind", `
Stream metadata is compared by boot image; a releases.json, an updates document, a
release.json, a builds.json and a meta.json by place. Times of change, layout and order
do not count.
`, 2, func(cmd *cobra.Command, args []string) error {
		var data [2][]byte
		for i, from := range args {
			var err error
			if data[i], _, err = c.read(cmd, from); err != nil {
				return err
			}
		}
		result := compared{Kind: kindOf(data[0])}
		if kind := kindOf(data[1]); kind != result.Kind {
			return ui.Next(ui.Usagef("%s is of kind %s, %s of kind %s", args[0], result.Kind, args[1], kind), "give two documents of a kind; drift compares what they name")
		}
		var err error
		switch result.Kind {
		case "stream":
			var older, newer *bootimage.Document[streammd.Stream]
			if older, newer, err = both(data, bootimage.DecodeStream); err == nil {
				result.Images = bootimage.CompareStreams(older.Value(), newer.Value())
			}
		case "releases.json":
			result.Changes, err = places(data, bootimage.DecodeIndex)
		case "updates":
			result.Changes, err = places(data, bootimage.DecodeUpdates)
		case "release.json":
			result.Changes, err = places(data, bootimage.DecodeRelease)
		case "builds.json":
			result.Changes, err = places(data, bootimage.DecodeBuilds)
		case "meta.json":
			result.Changes, err = places(data, bootimage.DecodeMeta)
		default:
			return ui.Next(ui.Usagef("documents of kind %s are not compared by place", result.Kind), "drift compares what they name")
		}
		if err != nil {
			return err
		}
		return result.print(cmd.OutOrStdout(), c.output)
	})
}

func both[T any](data [2][]byte, decode func(io.Reader) (*bootimage.Document[T], error)) (older, newer *bootimage.Document[T], err error) {
	if older, err = decode(bytes.NewReader(data[0])); err == nil {
		newer, err = decode(bytes.NewReader(data[1]))
	}
	return older, newer, err
}

// places compares two documents.
func places[T any](data [2][]byte, decode func(io.Reader) (*bootimage.Document[T], error)) ([]bootimage.FieldChange, error) {
	older, newer, err := both(data, decode)
	if err != nil {
		return nil, err
	}
	return bootimage.CompareDocuments(older, newer), nil
}

func (c *compared) print(w io.Writer, output string) error {
	if output != ui.Text {
		return ui.Write(w, output, c, nil)
	}
	for _, change := range c.Images {
		if _, err := fmt.Fprintln(w, change); err != nil {
			return err
		}
	}
	for _, change := range c.Changes {
		if _, err := fmt.Fprintln(w, change); err != nil {
			return err
		}
	}
	if len(c.Images)+len(c.Changes) == 0 {
		_, err := fmt.Fprintln(w, "nothing differs")
		return err
	}
	return nil
}
