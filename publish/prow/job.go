package prow

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// JobSpecVariable is the environment variable that holds a job's [JobSpec], and
// ArtifactsVariable the one that names the folder whose files Prow keeps.
const (
	JobSpecVariable   = "JOB_SPEC"
	ArtifactsVariable = "ARTIFACTS"
)

// MaxDocumentSize bounds JOB_SPEC, started.json and finished.json, bytes.
const MaxDocumentSize = 1 << 20

// JobType says what started a job.
type JobType string

// The types of jobs.
const (
	Periodic   JobType = "periodic"
	Postsubmit JobType = "postsubmit"
	Presubmit  JobType = "presubmit"
	Batch      JobType = "batch"
)

// JobSpec is what a job knows of itself.
type JobSpec struct {
	Type      JobType `json:"type"`
	Job       string  `json:"job"` // its name
	BuildID   string  `json:"buildid"`
	ProwJobID string  `json:"prowjobid"`
	Refs      *Refs   `json:"refs,omitempty"` // what is tested; none in periodic jobs
	ExtraRefs []Refs  `json:"extra_refs,omitempty"`
}

// Refs are a repository and the changes on top of a branch.
type Refs struct {
	Org     string `json:"org"`
	Repo    string `json:"repo"`
	BaseRef string `json:"base_ref,omitempty"`
	BaseSHA string `json:"base_sha,omitempty"`
	Pulls   []Pull `json:"pulls,omitempty"`
}

// Pull is a pull request.
type Pull struct {
	Number int    `json:"number"`
	Author string `json:"author"`
	SHA    string `json:"sha"`
}

// DecodeJobSpec reads the value of JOB_SPEC.
func DecodeJobSpec(text string) (*JobSpec, error) {
	s := &JobSpec{}
	if err := decode([]byte(text), s); err != nil {
		return nil, &Error{Op: "decode", Target: JobSpecVariable, Err: err}
	}
	var err error
	switch s.Type {
	case Periodic:
	case Postsubmit, Presubmit, Batch:
		if s.Refs == nil || s.Refs.Org == "" || s.Refs.Repo == "" {
			err = fmt.Errorf("a %s job without refs", s.Type)
		} else if s.Type == Presubmit && len(s.Refs.Pulls) != 1 {
			err = fmt.Errorf("a presubmit job of %d pull requests", len(s.Refs.Pulls))
		}
	default:
		err = fmt.Errorf("type %.40q", s.Type)
	}
	if s.Job == "" || s.BuildID == "" {
		err = errors.Join(err, errors.New("job or buildid is missing"))
	}
	names := []string{s.Job, s.BuildID}
	if s.Refs != nil {
		names = append(names, s.Refs.Org, s.Refs.Repo)
	}
	for _, n := range names {
		// They become parts of a path.
		if n == "." || n == ".." || strings.ContainsAny(n, "/\x00") {
			err = errors.Join(err, fmt.Errorf("name %.80q", n))
		}
	}
	if err != nil {
		return nil, &Error{Op: "decode", Target: JobSpecVariable, Err: err}
	}
	return s, nil
}

// Path is where Prow keeps the job's files in its bucket.
func (s *JobSpec) Path() string {
	if s.Type == Presubmit && s.Refs != nil && len(s.Refs.Pulls) == 1 {
		return path.Join("pr-logs", "pull", s.Refs.Org+"_"+s.Refs.Repo, fmt.Sprint(s.Refs.Pulls[0].Number), s.Job, s.BuildID)
	}
	if s.Type == Batch {
		return path.Join("pr-logs", "pull", "batch", s.Job, s.BuildID)
	}
	return path.Join("logs", s.Job, s.BuildID)
}

// Finished is finished.json, how a job ended.
type Finished struct {
	Timestamp int64  `json:"timestamp"` // seconds since 1970
	Passed    *bool  `json:"passed,omitempty"`
	Result    string `json:"result,omitempty"` // SUCCESS, FAILURE, ABORTED, ERROR
	Revision  string `json:"revision,omitempty"`
}

// DecodeFinished reads finished.json. One that does not say whether the job
// passed, or says two things, is an error: silence is no success.
func DecodeFinished(data []byte) (*Finished, error) {
	f := &Finished{}
	err := decode(data, f)
	switch {
	case err != nil:
	case f.Passed == nil && f.Result == "":
		err = errors.New("neither passed nor result is there")
	case f.Passed != nil && f.Result != "" && *f.Passed != (f.Result == "SUCCESS"):
		err = fmt.Errorf("passed is %t and result %.40q", *f.Passed, f.Result)
	}
	if err != nil {
		return nil, &Error{Op: "decode", Target: "finished.json", Err: err}
	}
	return f, nil
}

// Success says whether the job passed.
func (f *Finished) Success() bool {
	if f.Passed != nil {
		return *f.Passed
	}
	return f.Result == "SUCCESS"
}

// Time is when it ended.
func (f *Finished) Time() time.Time { return time.Unix(f.Timestamp, 0).UTC() }

func decode(data []byte, out any) error {
	if len(data) > MaxDocumentSize {
		return fmt.Errorf("%d bytes, limit %d", len(data), MaxDocumentSize)
	}
	return json.Unmarshal(data, out)
}
