package tekton

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/httpx"
	"github.com/okd-project/okd-streams/internal/lazyregexp"
)

// MaxAnswerSize bounds an answer of the API server, bytes.
const MaxAnswerSize = 64 << 20

// ClusterOptions are options of [NewCluster]; nil and the zero value are useful.
type ClusterOptions struct {
	// Token gives the bearer token of a request; nil: none is sent.
	Token func(ctx context.Context) (string, error)
	// Transport sends requests, and those that failed again where that is safe;
	// nil: one with time limits and the environment's proxies. A cluster's own
	// certificates are for it to know.
	Transport http.RoundTripper
}

// Cluster speaks with the API server of a cluster about pipeline runs. It may be used
// from any goroutine.
type Cluster struct {
	base *url.URL
	http *http.Client
	opts ClusterOptions
}

// NewCluster speaks with the API server at an https address, such as
// https://api.example.com:6443; http is for this machine alone.
func NewCluster(address string, opts *ClusterOptions) (*Cluster, error) {
	u, err := url.Parse(address)
	if err == nil && (u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname()))) {
		err = fmt.Errorf("an address such as https://HOST:6443 is needed: %w", fs.ErrInvalid)
	}
	if err != nil {
		return nil, &Error{Object: httpx.RedactText(address), Err: httpx.Redact(err)}
	}
	c := &Cluster{base: u}
	if opts != nil {
		c.opts = *opts
	}
	c.http = httpx.NewClient(httpx.NewTransport(c.opts.Transport, nil))
	return c, nil
}

// RunStatus is how a run of a pipeline is.
type RunStatus struct {
	Name    string            `json:"name"`
	UID     string            `json:"uid"`
	Labels  map[string]string `json:"labels,omitempty"`
	Created time.Time         `json:"created"`
	Ended   time.Time         `json:"ended,omitzero"`  // zero: it goes on
	State   string            `json:"state,omitempty"` // True, False or Unknown, as of the condition Succeeded
	Reason  string            `json:"reason,omitempty"`
	Message string            `json:"message,omitempty"`
}

// Create creates a run in its namespace, and gives the name that the cluster gave it. It is not
// repeated if the answer is lost: look with [Cluster.Runs] whether there is one.
func (c *Cluster) Create(ctx context.Context, run *PipelineRun) (name string, err error) {
	target := run.Head().Kind + " " + run.Metadata.Namespace + "/" + run.Metadata.Name + run.Metadata.GenerateName
	body, err := json.Marshal(run)
	if err != nil {
		return "", &Error{Object: target, Err: err}
	}
	var made struct{ Metadata Metadata }
	if err := c.call(ctx, target, http.MethodPost, run.Metadata.Namespace, "", nil, body, &made); err != nil {
		return "", err
	}
	if made.Metadata.Name == "" {
		return "", &Error{Object: target, Err: errors.New("the answer names no run")}
	}
	return made.Metadata.Name, nil
}

// Runs lists the runs of a namespace that have all labels, newest first.
func (c *Cluster) Runs(ctx context.Context, namespace string, labels map[string]string) ([]RunStatus, error) {
	target := "runs in " + namespace
	var selector []string
	for _, k := range sortedKeys(labels) {
		selector = append(selector, k+"="+labels[k])
	}
	var got struct {
		Items []runObject `json:"items"`
	}
	query := url.Values{}
	if selector != nil {
		query.Set("labelSelector", strings.Join(selector, ","))
	}
	if err := c.call(ctx, target, http.MethodGet, namespace, "", query, nil, &got); err != nil {
		return nil, err
	}
	var out []RunStatus
	for _, item := range got.Items {
		out = append(out, item.status())
	}
	slices.SortStableFunc(out, func(a, b RunStatus) int {
		if order := b.Created.Compare(a.Created); order != 0 {
			return order
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out, nil
}

// runObject is what is read of a run.
type runObject struct {
	Metadata struct {
		Name              string            `json:"name"`
		UID               string            `json:"uid"`
		Labels            map[string]string `json:"labels"`
		CreationTimestamp time.Time         `json:"creationTimestamp"`
	} `json:"metadata"`
	Status struct {
		CompletionTime time.Time `json:"completionTime"`
		Conditions     []struct {
			Type, Status, Reason, Message string
		} `json:"conditions"`
	} `json:"status"`
}

func (o *runObject) status() RunStatus {
	s := RunStatus{Name: o.Metadata.Name, UID: o.Metadata.UID, Labels: o.Metadata.Labels, Created: o.Metadata.CreationTimestamp, Ended: o.Status.CompletionTime}
	for _, condition := range o.Status.Conditions {
		if condition.Type == "Succeeded" {
			s.State, s.Reason, s.Message = condition.Status, condition.Reason, condition.Message
		}
	}
	return s
}

// Run looks at a run; that there is none is an error that wraps [fs.ErrNotExist].
func (c *Cluster) Run(ctx context.Context, namespace, name string) (*RunStatus, error) {
	target := kindPipelineRun + " " + namespace + "/" + name
	if !rePath.MatchString(name) {
		return nil, &Error{Object: target, Err: fs.ErrInvalid}
	}
	var got runObject
	if err := c.call(ctx, target, http.MethodGet, namespace, name, nil, nil, &got); err != nil {
		return nil, err
	}
	s := got.status()
	return &s, nil
}

// rePath is a name that is one element of a path.
var rePath = lazyregexp.New(`^[a-z0-9][a-z0-9.-]{0,252}$`)

// Delete removes a run, with its pods and what they said. One that is not there is
// removed already.
func (c *Cluster) Delete(ctx context.Context, namespace, name string) error {
	target := kindPipelineRun + " " + namespace + "/" + name
	if !rePath.MatchString(name) { // without a name it would be all
		return &Error{Object: target, Err: fs.ErrInvalid}
	}
	err := c.call(ctx, target, http.MethodDelete, namespace, name, nil, nil, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// call asks for pipeline runs.
func (c *Cluster) call(ctx context.Context, target, method, namespace, name string, query url.Values, body []byte, out any) (err error) {
	fail := func(err error) error { return &Error{Object: target, Err: err} }
	if !reNamespace.MatchString(namespace) {
		return fail(fmt.Errorf("namespace %.80q: %w", namespace, fs.ErrInvalid))
	}
	u := c.base.JoinPath("apis", "tekton.dev", "v1", "namespaces", namespace, "pipelineruns", name)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return fail(httpx.Redact(err))
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.opts.Token != nil {
		token, err := c.opts.Token(ctx)
		if err != nil {
			return fail(fmt.Errorf("token: %w", err))
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fail(httpx.Redact(err))
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := httpx.ReadBody(resp.Body, MaxAnswerSize)
	if err != nil {
		return fail(fmt.Errorf("answer: %w", err))
	}
	if resp.StatusCode/100 != 2 {
		return fail(refusal(resp.StatusCode, data))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fail(fmt.Errorf("answer: %w", err))
	}
	return nil
}

// refusal is what the API server says with another status than success.
func refusal(status int, data []byte) error {
	var s struct {
		Kind, Message, Reason string
	}
	said := http.StatusText(status)
	known := json.Unmarshal(data, &s) == nil && s.Kind == "Status"
	if known && s.Message != "" {
		said = httpx.Printable(s.Message)
	}
	err := fmt.Errorf("the cluster says %d: %s", status, said)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %w", err, fs.ErrPermission)
	case http.StatusNotFound:
		if !known || s.Reason == "" {
			// The path itself is unknown.
			return fmt.Errorf("%w: Tekton Pipelines with tekton.dev/v1 (0.44 or later) is not installed: %w", err, errors.ErrUnsupported)
		}
		return fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	case http.StatusConflict:
		return fmt.Errorf("%w: %w", err, fs.ErrExist)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %w", err, fs.ErrInvalid)
	}
	return err
}
