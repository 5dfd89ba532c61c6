package payload

import (
	"encoding/json"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// imageConfig is an image configuration with the members that oc knows, in its
// order. Others are dropped when a release image is made, as oc drops them.
type imageConfig struct {
	ID              string          `json:"id"`
	Parent          string          `json:"parent,omitempty"`
	Comment         string          `json:"comment,omitempty"`
	Created         time.Time       `json:"created"`
	Container       string          `json:"container,omitempty"`
	ContainerConfig containerConfig `json:"container_config"`
	DockerVersion   string          `json:"docker_version,omitempty"`
	Author          string          `json:"author,omitempty"`
	Config          *runConfig      `json:"config,omitempty"`
	Architecture    string          `json:"architecture,omitempty"`
	Size            int64           `json:"size,omitempty"`
	RootFS          *rootFS         `json:"rootfs,omitempty"`
	History         []history       `json:"history,omitempty"`
	OS              string          `json:"os,omitempty"`
	OSVersion       string          `json:"os.version,omitempty"`
	OSFeatures      []string        `json:"os.features,omitempty"`
}

// containerConfig is what an image of old was built in: always written empty.
type containerConfig struct{}

type rootFS struct {
	Type    string    `json:"type"`
	DiffIDs []v1.Hash `json:"diff_ids,omitempty"`
}

type history struct {
	Created    time.Time `json:"created"`
	Author     string    `json:"author,omitempty"`
	CreatedBy  string    `json:"created_by,omitempty"`
	Comment    string    `json:"comment,omitempty"`
	EmptyLayer bool      `json:"empty_layer,omitempty"`
}

type runConfig struct {
	Hostname        string              `json:"Hostname,omitempty"`
	Domainname      string              `json:"Domainname,omitempty"`
	User            string              `json:"User,omitempty"`
	Memory          int64               `json:"Memory,omitempty"`
	MemorySwap      int64               `json:"MemorySwap,omitempty"`
	CPUShares       int64               `json:"CpuShares,omitempty"`
	CPUSet          string              `json:"Cpuset,omitempty"`
	AttachStdin     bool                `json:"AttachStdin,omitempty"`
	AttachStdout    bool                `json:"AttachStdout,omitempty"`
	AttachStderr    bool                `json:"AttachStderr,omitempty"`
	PortSpecs       []string            `json:"PortSpecs,omitempty"`
	ExposedPorts    map[string]struct{} `json:"ExposedPorts,omitempty"`
	Tty             bool                `json:"Tty,omitempty"`
	OpenStdin       bool                `json:"OpenStdin,omitempty"`
	StdinOnce       bool                `json:"StdinOnce,omitempty"`
	Env             []string            `json:"Env,omitempty"`
	Cmd             []string            `json:"Cmd,omitempty"`
	DNS             []string            `json:"Dns,omitempty"`
	Image           string              `json:"Image,omitempty"`
	Volumes         map[string]struct{} `json:"Volumes,omitempty"`
	VolumesFrom     string              `json:"VolumesFrom,omitempty"`
	WorkingDir      string              `json:"WorkingDir,omitempty"`
	Entrypoint      []string            `json:"Entrypoint,omitempty"`
	NetworkDisabled bool                `json:"NetworkDisabled,omitempty"`
	SecurityOpts    []string            `json:"SecurityOpts,omitempty"`
	OnBuild         []string            `json:"OnBuild,omitempty"`
	Labels          map[string]string   `json:"Labels,omitempty"`
}

// release turns the base image's configuration into the release image's.
func (c imageConfig) release(version string, base v1.Hash, created time.Time, layer v1.Hash, size int64) ([]byte, error) {
	c.ID, c.Parent, c.Container = "", "", ""
	c.Created = created
	run := runConfig{}
	if c.Config != nil {
		run = *c.Config
	}
	run.Labels = map[string]string{
		LabelRelease:    version,
		LabelBaseDigest: base.String(),
	}
	c.Config = &run
	if c.OS == "" {
		c.OS = "linux"
	}
	if c.Architecture == "" {
		c.Architecture = "amd64"
	}
	c.Size = size
	c.RootFS = &rootFS{Type: "layers", DiffIDs: append(slices.Clone(c.RootFS.DiffIDs), layer)}
	c.History = make([]history, len(c.RootFS.DiffIDs))
	for i := range c.History {
		c.History[i].Created = created
	}
	c.History[0].Comment = "Release image for OpenShift"
	return json.Marshal(c)
}
