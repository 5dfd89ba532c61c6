package prow

import (
	"errors"
	"fmt"
	"time"
)

// Annotations that a release controller gives to the jobs that it starts.
const (
	AnnotationRelease = "release.openshift.io/tag"      // that is tested
	AnnotationFrom    = "release.openshift.io/from-tag" // that is updated from
	// ReleaseVariable is the variable of a job's container that holds the
	// pullspec of the release that is tested.
	ReleaseVariable = "RELEASE_IMAGE_LATEST"
)

// ProwJob is prowjob.json, which Prow keeps beside a job's results: the object
// of prow.k8s.io/v1 that it was started by, and how it was when it was kept.
type ProwJob struct {
	Name        string
	Annotations map[string]string
	Type        JobType
	Job         string
	// Env are the variables of the job's containers; of two with one name the
	// later one counts.
	Env       map[string]string
	State     string // scheduling, triggered, pending, success, failure, aborted, error
	URL       string
	BuildID   string
	Started   time.Time // zero: not yet
	Completed time.Time // zero: not yet
}

// DecodeProwJob reads prowjob.json, at most [MaxDocumentSize] bytes.
func DecodeProwJob(data []byte) (*ProwJob, error) {
	var w struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name        string            `json:"name"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec struct {
			Type    JobType `json:"type"`
			Job     string  `json:"job"`
			PodSpec struct {
				Containers []struct {
					Env []struct {
						Name  string `json:"name"`
						Value string `json:"value"`
					} `json:"env"`
				} `json:"containers"`
			} `json:"pod_spec"`
		} `json:"spec"`
		Status struct {
			State     string     `json:"state"`
			URL       string     `json:"url"`
			BuildID   string     `json:"build_id"`
			Started   *time.Time `json:"startTime"`
			Completed *time.Time `json:"completionTime"`
		} `json:"status"`
	}
	err := decode(data, &w)
	switch {
	case err != nil:
	case w.Kind != "" && w.Kind != "ProwJob":
		err = fmt.Errorf("kind %.40q", w.Kind)
	case w.Spec.Job == "":
		err = errors.New("no name of a job")
	}
	if err != nil {
		return nil, &Error{Op: "decode", Target: "prowjob.json", Err: err}
	}
	j := &ProwJob{
		Name: w.Metadata.Name, Annotations: w.Metadata.Annotations, Type: w.Spec.Type, Job: w.Spec.Job, Env: map[string]string{},
		State: w.Status.State, URL: w.Status.URL, BuildID: w.Status.BuildID,
	}
	for _, c := range w.Spec.PodSpec.Containers {
		for _, e := range c.Env {
			j.Env[e.Name] = e.Value
		}
	}
	if w.Status.Started != nil {
		j.Started = *w.Status.Started
	}
	if w.Status.Completed != nil {
		j.Completed = *w.Status.Completed
	}
	return j, nil
}
