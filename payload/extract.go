package payload

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/okd-project/okd-streams/internal/atomicfile"
)

// FilesOptions say which files of a payload [Release.Files] gives, and how.
// Nil is all of them, as they are.
type FilesOptions struct {
	// Normalised writes each object as oc does: YAML with sorted keys, without
	// comments, behind a line "---". Files that hold no objects stay as they
	// are.
	Normalised bool
	// Cluster, if not nil, leaves out the objects that it would not apply, and
	// files of which nothing is left. Documents are kept as they are unless
	// Normalised is set.
	Cluster *Cluster
	// CredentialsRequests keeps only the objects by which components ask for
	// credentials of a cloud, Cloud only those for one: alibabacloud, aws,
	// azure, gcp, ibmcloud, nutanix, openstack, ovirt, powervs or vsphere.
	CredentialsRequests bool
	Cloud               string
}

// clouds are the kinds of spec.providerSpec in a CredentialsRequest.
var clouds = map[string]string{
	"alibabacloud": "AlibabaCloudProviderSpec", "aws": "AWSProviderSpec", "azure": "AzureProviderSpec", "gcp": "GCPProviderSpec",
	"ibmcloud": "IBMCloudProviderSpec", "nutanix": "NutanixProviderSpec", "openstack": "OpenStackProviderSpec", "ovirt": "OvirtProviderSpec",
	"powervs": "IBMCloudPowerVSProviderSpec", "vsphere": "VSphereProviderSpec",
}

// File gives one file of the payload, with image-references and
// release-metadata, as it is. A name that it does not have gives
// [io/fs.ErrNotExist]. The bytes are not to be changed.
func (r *Release) File(name string) ([]byte, error) {
	switch name {
	case referencesFile:
		return r.References.Raw, nil
	case metadataFile:
		return r.Metadata.Raw, nil
	}
	for i := range r.files {
		if r.files[i].name == name {
			return r.files[i].data, nil
		}
	}
	return nil, &Error{Op: "extract", Target: name, Err: fs.ErrNotExist}
}

// PayloadFile is a file of a payload.
type PayloadFile struct {
	Name string
	Data []byte // not to be changed
}

// Files gives the files of the payload: image-references and release-metadata
// (unless objects are filtered), then the manifests by name. A manifest that
// is to be filtered or normalised and cannot be read is an error, which ends
// the sequence; oc leaves such files out with a message.
func (r *Release) Files(ctx context.Context, opts *FilesOptions) iter.Seq2[PayloadFile, error] {
	if opts == nil {
		opts = &FilesOptions{}
	}
	return func(yield func(PayloadFile, error) bool) {
		if opts.Cloud != "" && clouds[opts.Cloud] == "" {
			yield(PayloadFile{}, &Error{Op: "extract", Target: r.Version(), Err: fmt.Errorf("cloud %.100q is none of %v", opts.Cloud, slices.Sorted(maps.Keys(clouds)))})
			return
		}
		filtered := opts.Cluster != nil || opts.CredentialsRequests || opts.Cloud != ""
		if !filtered {
			for _, f := range []PayloadFile{{referencesFile, r.References.Raw}, {metadataFile, r.Metadata.Raw}} {
				if !yield(f, nil) {
					return
				}
			}
		}
		for _, f := range r.files {
			if err := ctx.Err(); err != nil {
				yield(PayloadFile{}, err)
				return
			}
			out := PayloadFile{f.name, f.data}
			switch {
			case !isManifestName(f.name):
				if filtered {
					continue
				}
			case filtered || opts.Normalised:
				data, err := opts.rewrite(ctx, f, filtered)
				if err != nil {
					yield(PayloadFile{}, err)
					return
				}
				if data == nil {
					continue
				}
				out.Data = data
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// rewrite gives what is wanted of a manifest; nil: nothing.
func (o *FilesOptions) rewrite(ctx context.Context, f file, filtered bool) ([]byte, error) {
	var kept []*Object
	all := 0
	var fault error
	fileObjects(ctx, f, func(obj *Object, err error) bool {
		if err != nil {
			fault = err
			return false
		}
		all++
		if o.wants(obj) {
			kept = append(kept, obj)
		}
		return true
	})
	switch {
	case fault != nil:
		return nil, fault
	case len(kept) == 0 && filtered:
		return nil, nil
	case !o.Normalised && len(kept) == all:
		return f.data, nil
	}
	var out bytes.Buffer
	for _, obj := range kept {
		text := obj.Raw
		if o.Normalised {
			var err error
			if text, err = yaml.JSONToYAML(obj.JSON); err != nil {
				return nil, &Error{Op: "extract", Target: fmt.Sprintf("manifest %s:%d", f.name, obj.Line), Err: err}
			}
			out.WriteString("---\n")
		} else if out.Len() > 0 && !bytes.HasPrefix(text, []byte("---")) {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

func (o *FilesOptions) wants(obj *Object) bool {
	if o.Cluster != nil && o.Cluster.Includes(obj) != nil {
		return false
	}
	if !o.CredentialsRequests && o.Cloud == "" {
		return true
	}
	if obj.Kind != "CredentialsRequest" || obj.APIVersion != "cloudcredential.openshift.io/v1" {
		return false
	}
	if o.Cloud == "" {
		return true
	}
	var spec struct {
		Spec struct {
			ProviderSpec struct {
				Kind string `json:"kind"`
			} `json:"providerSpec"`
		} `json:"spec"`
	}
	return json.Unmarshal(obj.JSON, &spec) == nil && spec.Spec.ProviderSpec.Kind == clouds[o.Cloud]
}

// Extract writes the files of the payload into a folder that exists, each
// whole or not at all, and gives their number. Files of these names are
// replaced.
func (r *Release) Extract(ctx context.Context, dir string, opts *FilesOptions) (int, error) {
	n := 0
	for f, err := range r.Files(ctx, opts) {
		if err == nil {
			err = writeFile(dir, f.Name, f.Data)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func writeFile(dir, name string, data []byte) error {
	if err := checkFileName(name); err != nil || !filepath.IsLocal(name) || filepath.Base(name) != name {
		return &Error{Op: "extract", Target: fmt.Sprintf("%.300q", name), Err: errors.Join(fs.ErrInvalid, err)}
	}
	err := atomicfile.Write(filepath.Join(dir, name), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return &Error{Op: "extract", Target: name, Err: err}
	}
	return nil
}
