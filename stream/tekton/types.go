package tekton

import (
	"encoding/json"
)

// API versions and kinds of what is rendered.
const (
	tektonAPI = "tekton.dev/v1"
	coreAPI   = "v1"
	batchAPI  = "batch/v1"
	rbacAPI   = rbacGroup + "/v1"
	rbacGroup = "rbac.authorization.k8s.io"

	kindTask        = "Task"
	kindPipeline    = "Pipeline"
	kindPipelineRun = "PipelineRun"
	kindCronJob     = "CronJob"
)

// Object is one of [Task], [Pipeline], [PipelineRun], [CronJob], [ConfigMap],
// [Namespace], [ServiceAccount], [VolumeClaim], [Role] and [RoleBinding]. Their
// fields have the names of the published types' fields: those that are rendered here,
// and no others.
type Object interface {
	// Head is what every object begins with.
	Head() *Header
}

// Header is what every object begins with.
type Header struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
}

// Head gives the header itself.
func (h *Header) Head() *Header { return h }

// Metadata names an object.
type Metadata struct {
	Name         string            `json:"name,omitempty"`
	GenerateName string            `json:"generateName,omitempty"` // the cluster adds some letters
	Namespace    string            `json:"namespace,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Value is a text, or a list of texts.
type Value struct {
	Text string
	List []string // nil: it is a text
}

// isList reports which it is.
func (v *Value) isList() bool { return v.List != nil }

func text(s string) *Value       { return &Value{Text: s} }
func list(items ...string) Value { return Value{List: append([]string{}, items...)} }

// MarshalJSON gives a string or an array.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.isList() {
		return json.Marshal(v.List)
	}
	return json.Marshal(v.Text)
}

// UnmarshalJSON accepts a string or an array of strings.
func (v *Value) UnmarshalJSON(data []byte) error {
	*v = Value{}
	if len(data) > 0 && data[0] == '[' {
		return json.Unmarshal(data, &v.List)
	}
	return json.Unmarshal(data, &v.Text)
}

// The types of parameters and results.
const (
	typeString = "string"
	typeArray  = "array"
)

// Task is tekton.dev/v1 Task.
type Task struct {
	Header
	Spec TaskSpec `json:"spec"`
}

// TaskSpec is what a task does: its steps, one after the other, in one pod.
type TaskSpec struct {
	Description string      `json:"description,omitempty"`
	Params      []ParamSpec `json:"params,omitempty"`
	Workspaces  []Workspace `json:"workspaces,omitempty"`
	Results     []Result    `json:"results,omitempty"`
	Steps       []Step      `json:"steps"`
	Volumes     []Volume    `json:"volumes,omitempty"`
}

// ParamSpec declares a parameter. Without a default it is required.
type ParamSpec struct {
	Name        string `json:"name"`
	Type        string `json:"type,omitempty"` // string (also if empty) or array
	Description string `json:"description,omitempty"`
	Default     *Value `json:"default,omitempty"`
}

// Workspace declares a folder that a task or pipeline is given.
type Workspace struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	ReadOnly    bool   `json:"readOnly,omitempty"` // of tasks alone
	Optional    bool   `json:"optional,omitempty"`
}

// Result declares what a task leaves, or what of it a pipeline does.
type Result struct {
	Name        string `json:"name"`
	Type        string `json:"type,omitempty"`
	Description string `json:"description,omitempty"`
	Value       string `json:"value,omitempty"` // of pipelines alone
}

// Step is a container.
type Step struct {
	Name      string           `json:"name"`
	Image     string           `json:"image"`
	Command   []string         `json:"command,omitempty"`
	Args      []string         `json:"args,omitempty"`
	Script    string           `json:"script,omitempty"`
	Env       []EnvVar         `json:"env,omitempty"`
	WorkDir   string           `json:"workingDir,omitempty"`
	Resources *Resources       `json:"computeResources,omitempty"`
	Mounts    []VolumeMount    `json:"volumeMounts,omitempty"`
	Security  *SecurityContext `json:"securityContext,omitempty"`
}

// EnvVar is an environment variable, with a value or from a secret.
type EnvVar struct {
	Name      string     `json:"name"`
	Value     string     `json:"value,omitempty"`
	ValueFrom *EnvSource `json:"valueFrom,omitempty"`
}

// EnvSource is where a variable's value is.
type EnvSource struct {
	SecretKeyRef *SecretKey `json:"secretKeyRef,omitempty"`
}

// SecretKey names a key of a Secret.
type SecretKey struct {
	Name     string `json:"name"`
	Key      string `json:"key"`
	Optional bool   `json:"optional,omitempty"`
}

// Resources are quantities by resource, such as memory and
// devices.kubevirt.io/kvm.
type Resources struct {
	Limits   map[string]string `json:"limits,omitempty"`
	Requests map[string]string `json:"requests,omitempty"`
}

// VolumeMount mounts a volume.
type VolumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly,omitempty"`
}

// Volume is a folder or file of a pod; exactly one source is set.
type Volume struct {
	Name      string        `json:"name"`
	EmptyDir  *EmptyDir     `json:"emptyDir,omitempty"`
	Secret    *SecretVolume `json:"secret,omitempty"`
	ConfigMap *NameRef      `json:"configMap,omitempty"`
	HostPath  *HostPath     `json:"hostPath,omitempty"`
	Projected *Projected    `json:"projected,omitempty"`
}

// Projected is a folder made of several sources.
type Projected struct {
	Sources []Projection `json:"sources"`
}

// Projection is one source of a [Projected] folder.
type Projection struct {
	ConfigMap *NameRef      `json:"configMap,omitempty"`
	Token     *AccountToken `json:"serviceAccountToken,omitempty"`
}

// AccountToken is a token of the pod's service account.
type AccountToken struct {
	Path              string `json:"path"`
	ExpirationSeconds int64  `json:"expirationSeconds,omitempty"`
}

// EmptyDir is a folder that begins empty and ends with the pod.
type EmptyDir struct{}

// SecretVolume is a folder with a Secret's keys.
type SecretVolume struct {
	SecretName string `json:"secretName"`
	Optional   bool   `json:"optional,omitempty"`
}

// HostPath is a file or folder of the node.
type HostPath struct {
	Path string `json:"path"`
	Type string `json:"type,omitempty"`
}

// NameRef names an object.
type NameRef struct {
	Name string `json:"name"`
}

// SecurityContext is what a container may.
type SecurityContext struct {
	Privileged               bool            `json:"privileged,omitempty"`
	AllowPrivilegeEscalation *bool           `json:"allowPrivilegeEscalation,omitempty"`
	Capabilities             *Capabilities   `json:"capabilities,omitempty"`
	RunAsNonRoot             bool            `json:"runAsNonRoot,omitempty"`
	RunAsUser                *int64          `json:"runAsUser,omitempty"`
	SeccompProfile           *SeccompProfile `json:"seccompProfile,omitempty"`
}

// Capabilities are added to, or dropped from, what a container may.
type Capabilities struct {
	Add  []string `json:"add,omitempty"`
	Drop []string `json:"drop,omitempty"`
}

// SeccompProfile says which system calls a container may make.
type SeccompProfile struct {
	Type string `json:"type"`
}

// Pipeline is tekton.dev/v1 Pipeline.
type Pipeline struct {
	Header
	Spec PipelineSpec `json:"spec"`
}

// PipelineSpec is tasks and what they need of each other.
type PipelineSpec struct {
	Description string         `json:"description,omitempty"`
	Params      []ParamSpec    `json:"params,omitempty"`
	Workspaces  []Workspace    `json:"workspaces,omitempty"`
	Results     []Result       `json:"results,omitempty"`
	Tasks       []PipelineTask `json:"tasks"`
	Finally     []PipelineTask `json:"finally,omitempty"`
}

// PipelineTask is a task of a pipeline.
type PipelineTask struct {
	Name       string             `json:"name"`
	TaskRef    TaskRef            `json:"taskRef"`
	RunAfter   []string           `json:"runAfter,omitempty"`
	When       []When             `json:"when,omitempty"`
	Retries    int                `json:"retries,omitempty"`
	Timeout    string             `json:"timeout,omitempty"`
	Params     []Param            `json:"params,omitempty"`
	Workspaces []WorkspaceBinding `json:"workspaces,omitempty"`
}

// TaskRef names a Task.
type TaskRef struct {
	Name string `json:"name"`
	Kind string `json:"kind,omitempty"`
}

// When is a condition under which a task runs.
type When struct {
	Input    string   `json:"input"`
	Operator string   `json:"operator"` // in or notin
	Values   []string `json:"values"`
}

// Param gives a parameter a value.
type Param struct {
	Name  string `json:"name"`
	Value Value  `json:"value"`
}

// WorkspaceBinding gives a workspace a folder: of a pipeline's task one of the
// pipeline's, of a run a volume.
type WorkspaceBinding struct {
	Name      string        `json:"name"`
	Workspace string        `json:"workspace,omitempty"`
	SubPath   string        `json:"subPath,omitempty"`
	Claim     *ClaimRef     `json:"persistentVolumeClaim,omitempty"`
	ConfigMap *NameRef      `json:"configMap,omitempty"`
	Secret    *SecretVolume `json:"secret,omitempty"`
	EmptyDir  *EmptyDir     `json:"emptyDir,omitempty"`
}

// ClaimRef names a claim of a volume.
type ClaimRef struct {
	ClaimName string `json:"claimName"`
}

// PipelineRun is tekton.dev/v1 PipelineRun.
type PipelineRun struct {
	Header
	Spec PipelineRunSpec `json:"spec"`
}

// PipelineRunSpec is a pipeline with all that it needs.
type PipelineRunSpec struct {
	PipelineRef  NameRef            `json:"pipelineRef"`
	Params       []Param            `json:"params,omitempty"`
	Workspaces   []WorkspaceBinding `json:"workspaces,omitempty"`
	Timeouts     *Timeouts          `json:"timeouts,omitempty"`
	TaskTemplate *TaskRunTemplate   `json:"taskRunTemplate,omitempty"`
}

// Timeouts of a run; "0s" is none.
type Timeouts struct {
	Pipeline string `json:"pipeline,omitempty"`
	Tasks    string `json:"tasks,omitempty"`
	Finally  string `json:"finally,omitempty"`
}

// TaskRunTemplate is what the pods of a run have in common.
type TaskRunTemplate struct {
	ServiceAccountName string       `json:"serviceAccountName,omitempty"`
	PodTemplate        *PodTemplate `json:"podTemplate,omitempty"`
}

// PodTemplate is what pods are made with.
type PodTemplate struct {
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	Security     *PodSecurity      `json:"securityContext,omitempty"`
	HostNetwork  bool              `json:"hostNetwork,omitempty"`
}

// PodSecurity is what all containers of a pod may.
type PodSecurity struct {
	FSGroup *int64 `json:"fsGroup,omitempty"`
	// FSGroupChangePolicy OnRootMismatch spares large volumes a walk at each start.
	FSGroupChangePolicy string `json:"fsGroupChangePolicy,omitempty"`
}

// CronJob is batch/v1 CronJob.
type CronJob struct {
	Header
	Spec CronJobSpec `json:"spec"`
}

// CronJobSpec is a schedule and what it starts.
type CronJobSpec struct {
	Schedule                   string      `json:"schedule"`
	TimeZone                   string      `json:"timeZone,omitempty"`
	ConcurrencyPolicy          string      `json:"concurrencyPolicy,omitempty"`
	StartingDeadlineSeconds    int64       `json:"startingDeadlineSeconds,omitempty"`
	SuccessfulJobsHistoryLimit int         `json:"successfulJobsHistoryLimit,omitempty"`
	FailedJobsHistoryLimit     int         `json:"failedJobsHistoryLimit,omitempty"`
	JobTemplate                JobTemplate `json:"jobTemplate"`
}

// JobTemplate is what each job is made of.
type JobTemplate struct {
	Spec JobSpec `json:"spec"`
}

// JobSpec is a pod that runs to its end.
type JobSpec struct {
	BackoffLimit          int             `json:"backoffLimit"`
	ActiveDeadlineSeconds int64           `json:"activeDeadlineSeconds,omitempty"`
	Template              PodTemplateSpec `json:"template"`
}

// PodTemplateSpec is a pod.
type PodTemplateSpec struct {
	Metadata *Metadata `json:"metadata,omitempty"`
	Spec     PodSpec   `json:"spec"`
}

// PodSpec is what a pod runs.
type PodSpec struct {
	ServiceAccountName string      `json:"serviceAccountName,omitempty"`
	AutomountToken     *bool       `json:"automountServiceAccountToken,omitempty"`
	RestartPolicy      string      `json:"restartPolicy"`
	HostNetwork        bool        `json:"hostNetwork,omitempty"`
	Containers         []Container `json:"containers"`
	Volumes            []Volume    `json:"volumes,omitempty"`
}

// Container is one of a pod.
type Container struct {
	Name      string           `json:"name"`
	Image     string           `json:"image"`
	Command   []string         `json:"command,omitempty"`
	Args      []string         `json:"args,omitempty"`
	Env       []EnvVar         `json:"env,omitempty"`
	Resources *Resources       `json:"resources,omitempty"`
	Mounts    []VolumeMount    `json:"volumeMounts,omitempty"`
	Security  *SecurityContext `json:"securityContext,omitempty"`
}

// ConfigMap is v1 ConfigMap.
type ConfigMap struct {
	Header
	Immutable bool              `json:"immutable,omitempty"`
	Data      map[string]string `json:"data"`
}

// Namespace is v1 Namespace.
type Namespace struct {
	Header
}

// ServiceAccount is v1 ServiceAccount.
type ServiceAccount struct {
	Header
	AutomountToken bool `json:"automountServiceAccountToken"`
}

// VolumeClaim is v1 PersistentVolumeClaim.
type VolumeClaim struct {
	Header
	Spec VolumeClaimSpec `json:"spec"`
}

// VolumeClaimSpec is what volume is wanted.
type VolumeClaimSpec struct {
	AccessModes  []string  `json:"accessModes"`
	StorageClass string    `json:"storageClassName,omitempty"`
	Resources    Resources `json:"resources"`
}

// Role is rbac.authorization.k8s.io/v1 Role.
type Role struct {
	Header
	Rules []Rule `json:"rules"`
}

// Rule is what may be done to which resources.
type Rule struct {
	APIGroups     []string `json:"apiGroups"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames,omitempty"`
	Verbs         []string `json:"verbs"`
}

// RoleBinding is rbac.authorization.k8s.io/v1 RoleBinding.
type RoleBinding struct {
	Header
	RoleRef  RoleRef   `json:"roleRef"`
	Subjects []Subject `json:"subjects"`
}

// RoleRef names a role.
type RoleRef struct {
	APIGroup string `json:"apiGroup"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

// Subject is who has a role.
type Subject struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}
