package bootimagecmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

// checked is what check prints.
type checked struct {
	Kind   string  `json:"kind"`
	Faults []fault `json:"faults"`
}

type fault struct {
	File string `json:"file,omitempty"` // of a catalogue's
	Path string `json:"path,omitempty"`
	Text string `json:"text"`
}

type checkFlags struct {
	previous, index, aleph, arch, release string
	signature                             string
	keys                                  []string
	signatures, cluster                   bool
}

func (c *common) check() *cobra.Command {
	var f checkFlags
	cmd := c.leaf("check [FLAGS] DOCUMENT", "Check a document, and name every fault with its path", `
Beside documents with boot images it checks a builds.json, a releases.json and an
updates document; of builds:PATH the builds.json, and of the newest build every meta.json
and release.json. No fault: exit code 0. Faults: 3.
`, 1, func(cmd *cobra.Command, args []string) error {
		if dir, ok := strings.CutPrefix(spelled(args[0]), "builds:"); ok && len(f.keys) == 0 {
			result, err := checkBuilds(dir)
			if err != nil {
				return err
			}
			return result.verdict(cmd.OutOrStdout(), c.output, args[0])
		}
		data, _, err := c.read(cmd, args[0])
		if err != nil {
			return err
		}
		if len(f.keys) > 0 {
			if err := c.signed(cmd, &f, args[0], data); err != nil {
				return err
			}
		}
		result := checked{Kind: kindOf(data), Faults: []fault{}}
		err = c.validate(cmd, &f, result.Kind, data)
		if _, advised := errors.AsType[*ui.AdviceError](err); advised {
			return err
		}
		if _, usage := errors.AsType[*ui.UsageError](err); usage {
			return err
		}
		result.add("", err)
		return result.verdict(cmd.OutOrStdout(), c.output, args[0])
	})
	flags := cmd.Flags()
	flags.StringVar(&f.previous, "previous", "", "`DOCUMENT` that a stream's metadata is to replace: nothing may be missing")
	flags.StringVar(&f.index, "index", "", "`DOCUMENT` with the index of releases that an updates document is of")
	flags.StringVar(&f.aleph, "aleph", "", "`FILE` .coreos-aleph-version.json of a disk that is to be published as a release.json, or the disk, where its root file system is ext4 or XFS")
	flags.StringVar(&f.arch, "arch", "x86_64", "`ARCHITECTURE` of that disk")
	flags.StringVar(&f.release, "release", "", "`VERSION` that a ConfigMap should be of")
	flags.StringArrayVar(&f.keys, "key", nil, "`FILE` of OpenPGP public keys, one of which must have signed the document; may be repeated")
	flags.StringVar(&f.signature, "signature", "", "`DOCUMENT` with that signature (default: DOCUMENT.sig)")
	flags.BoolVar(&f.signatures, "signatures", false, "want a signature of every file of a stream")
	flags.BoolVar(&f.cluster, "cluster", false, "check a ConfigMap as one of a cluster, not of a payload")
	return cmd
}

// checkBuilds checks a catalogue and its newest build.
func checkBuilds(dir string) (*checked, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, ui.Next(err, "give the folder with builds.json")
	}
	defer root.Close()
	result := &checked{Kind: "catalogue", Faults: []fault{}}
	read := func(name string) ([]byte, error) {
		file, err := root.Open(name)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(file, bootimage.MaxDocumentSize+1))
		return data, errors.Join(err, file.Close())
	}
	data, err := read(bootimage.BuildsFile)
	if err != nil {
		return nil, ui.Next(err, "give the folder with builds.json, and below it ID/ARCH/meta.json")
	}
	builds, err := bootimage.DecodeBuilds(bytes.NewReader(data))
	if err != nil {
		result.add(bootimage.BuildsFile, err)
		return result, nil
	}
	newest, _ := builds.Value().Latest("")
	for _, arch := range newest.Arches {
		at := path.Join(newest.ID, arch, bootimage.MetaFile)
		data, err := read(at)
		if err == nil {
			err = validateMeta(data)
		}
		result.add(at, err)
		release, err := bootimage.ReadRelease(root.FS(), newest.ID, arch)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // not every pipeline makes it
		case err == nil:
			err = bootimage.ValidateRelease(release)
		}
		result.add(path.Join(newest.ID, bootimage.ReleaseFile), err)
	}
	return result, nil
}

func validateMeta(data []byte) error {
	d, err := bootimage.DecodeMeta(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return bootimage.ValidateMeta(d)
}

// add adds the faults of a file, each once.
func (r *checked) add(file string, err error) {
	for _, one := range each(err) {
		f := fault{File: file, Text: one.Error()}
		if field, ok := errors.AsType[*bootimage.FieldError](one); ok {
			f.Path, f.Text = field.Path, field.Err.Error()
		}
		if !slices.Contains(r.Faults, f) {
			r.Faults = append(r.Faults, f)
		}
	}
}

// verdict prints the faults, and is an error where there are any.
func (r *checked) verdict(w io.Writer, output, name string) error {
	if err := r.print(w, output, name); err != nil {
		return err
	}
	if n := len(r.Faults); n > 0 {
		return ui.Next(&ui.VerificationError{Err: fmt.Errorf("%s: %s", name, ui.Count(n, "fault"))}, "correct them where the document is made; readers differ in which they forgive")
	}
	return nil
}

// signed checks the signature of a document.
func (c *common) signed(cmd *cobra.Command, f *checkFlags, from string, data []byte) error {
	var keys [][]byte
	for _, file := range f.keys {
		key, err := os.ReadFile(file)
		if err != nil {
			return ui.Next(err, "give a file of public keys, as gpg --export writes it")
		}
		keys = append(keys, key)
	}
	keyring, err := pgpsigner.ParseKeyring(keys...)
	if err != nil {
		return ui.Next(ui.Usagef("--key=%s: %w", strings.Join(f.keys, ", "), err), "give a file of public keys, as gpg --export writes it")
	}
	if f.signature == "" {
		f.signature = from + ".sig"
	}
	signature, _, err := c.read(cmd, f.signature)
	if err != nil {
		return err
	}
	_, err = pgpsigner.NewVerifier(keyring, time.Now, nil).Verify(cmd.Context(), bytes.NewReader(data), signature)
	if err != nil {
		return ui.Next(&ui.VerificationError{Err: fmt.Errorf("%s: %w", from, err)}, "don't use the document: get it again, and its keys from who publishes it")
	}
	return nil
}

// each takes joined errors apart.
func each(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range j.Unwrap() {
			all = append(all, each(e)...)
		}
		return all
	}
	return []error{err}
}

func (r *checked) print(w io.Writer, output, name string) error {
	if output != ui.Text {
		return ui.Write(w, output, r, nil)
	}
	for _, f := range r.Faults {
		text := f.Text
		if f.Path != "" {
			text = f.Path + ": " + text
		}
		if f.File != "" {
			text = f.File + ": " + text
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	if len(r.Faults) == 0 {
		_, err := fmt.Fprintf(w, "%s: %s, no faults\n", name, r.Kind)
		return err
	}
	return nil
}

// kindOf tells documents apart by their keys.
func kindOf(data []byte) string {
	var keys map[string]json.RawMessage
	if json.Unmarshal(data, &keys) != nil {
		return "ConfigMap" // or nothing that can be read
	}
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return keys[name] == nil })
	}
	switch {
	case has("kind", "data"):
		return "ConfigMap"
	case has("schema-version"):
		return "builds.json"
	case has("buildid", "baseURI"):
		return "installer's pin"
	case has("buildid"):
		return "meta.json"
	case has("release", "architectures"):
		return "release.json"
	case has("stream", "architectures"):
		return "stream"
	case has("stream", "releases"):
		var first struct {
			Releases []struct {
				Metadata any `json:"metadata"`
			} `json:"releases"`
		}
		if json.Unmarshal(data, &first) == nil && len(first.Releases) > 0 {
			if _, address := first.Releases[0].Metadata.(string); address {
				return "releases.json"
			}
		}
		if has("note") {
			return "releases.json"
		}
		return "updates"
	}
	return "unknown"
}

func (c *common) validate(cmd *cobra.Command, f *checkFlags, kind string, data []byte) error {
	if f.aleph != "" && kind != "release.json" {
		return ui.Usagef("--aleph is compared with a release.json, and this is of kind %s", kind)
	}
	body := bytes.NewReader(data)
	switch kind {
	case "ConfigMap":
		m, err := bootimage.DecodeConfigMap(body)
		if err != nil {
			return err
		}
		return bootimage.ValidateConfigMap(m, &bootimage.ConfigMapCheck{Release: f.release, Cluster: f.cluster})
	case "stream":
		d, err := bootimage.DecodeStream(body)
		if err != nil {
			return err
		}
		o := bootimage.ValidateOptions{Signatures: f.signatures}
		if o.Previous, err = c.previous(cmd, f.previous); err != nil {
			return err
		}
		return bootimage.ValidateStream(d.Value(), &o)
	case "release.json":
		d, err := bootimage.DecodeRelease(body)
		if err != nil {
			return err
		}
		if f.aleph == "" {
			return bootimage.ValidateRelease(d)
		}
		text, err := c.aleph(cmd, f.aleph)
		if err != nil {
			return err
		}
		aleph, err := bootimage.DecodeAleph(bytes.NewReader(text))
		if err != nil {
			return err
		}
		return errors.Join(bootimage.ValidateRelease(d), bootimage.CheckAleph(aleph.Value(), d.Value(), f.arch))
	case "releases.json":
		d, err := bootimage.DecodeIndex(body)
		if err != nil {
			return err
		}
		return bootimage.ValidateIndex(d.Value())
	case "updates":
		d, err := bootimage.DecodeUpdates(body)
		if err != nil {
			return err
		}
		if f.index == "" {
			return bootimage.ValidateUpdates(d.Value(), nil)
		}
		text, _, err := c.read(cmd, f.index)
		if err != nil {
			return err
		}
		index, err := bootimage.DecodeIndex(bytes.NewReader(text))
		if err != nil {
			return err
		}
		return bootimage.ValidateUpdates(d.Value(), index.Value())
	case "builds.json":
		_, err := bootimage.DecodeBuilds(body)
		return err
	case "meta.json":
		return validateMeta(data)
	}
	_, err := bootimage.ReadOrigin(body, nil)
	return err
}

// aleph gives what a disk says it was made from: of the file itself, or of the disk.
func (c *common) aleph(cmd *cobra.Command, from string) ([]byte, error) {
	file, err := os.Open(from)
	if err != nil { // no file: an address, or standard input
		data, _, err := c.read(cmd, from)
		return data, err
	}
	defer file.Close()
	head := make([]byte, 512)
	n, err := file.ReadAt(head, 0)
	if text := bytes.TrimLeft(head[:n], " \t\r\n"); err != nil && !errors.Is(err, io.EOF) || len(text) == 0 || text[0] == '{' {
		data, _, err := c.read(cmd, from)
		return data, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	image, err := disk.Open(cmd.Context(), file, size, nil)
	if err != nil {
		return nil, ui.Next(fmt.Errorf("%s: %w", from, err), "give the disk, or the file "+bootimage.AlephPath+" out of it")
	}
	data, err := disk.RootFile(cmd.Context(), image, image.Size(), bootimage.AlephPath)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil, ui.Next(fmt.Errorf("%s: %w", from, err), "give the file itself: virt-cat -a "+from+" -m /dev/sda4 /"+bootimage.AlephPath+" prints it")
	case err != nil:
		return nil, ui.Next(fmt.Errorf("%s: %w", from, err), "give a disk of CoreOS, or the file "+bootimage.AlephPath+" out of it")
	}
	return data, nil
}

func (c *common) previous(cmd *cobra.Command, from string) (*streammd.Stream, error) {
	if from == "" {
		return nil, nil
	}
	data, _, err := c.read(cmd, from)
	if err != nil {
		return nil, err
	}
	d, err := bootimage.DecodeStream(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return d.Value(), nil
}
