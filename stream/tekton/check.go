package tekton

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/lazyregexp"
	"github.com/okd-project/okd-streams/stream"
)

// Error is a fault of an object.
type Error struct {
	Object string // kind and name
	Path   string // in it, "" for the whole
	Err    error
}

func (e *Error) Error() string {
	text := "tekton: " + e.Object
	if e.Path != "" {
		text += ": " + e.Path
	}
	return text + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Check finds what would make a run fail although the cluster takes all objects:
// parameters that are missing, unknown or of another type, workspaces that nobody
// gives, results that no task has, tasks that wait for each other, a task with two
// volume claims, time limits that contradict each other. Tasks and pipelines that
// others name must be among the objects. Every fault is an [*Error]; they are joined.
// Whether fields are known and well-formed is for the cluster to say.
func Check(objects ...Object) error {
	c := &checker{tasks: map[string]*Task{}, pipelines: map[string]*Pipeline{}}
	seen := map[string]bool{}
	for _, o := range objects {
		h := o.Head()
		c.object = h.Kind + " " + h.Metadata.Name
		if h.Metadata.Name != "" {
			id := h.Kind + "/" + h.Metadata.Namespace + "/" + h.Metadata.Name
			if seen[id] {
				c.fault("", "there are two")
			}
			seen[id] = true
		}
		switch o := o.(type) {
		case *Task:
			c.tasks[key(h, h.Metadata.Name)] = o
		case *Pipeline:
			c.pipelines[key(h, h.Metadata.Name)] = o
		}
	}
	for _, o := range objects {
		h := o.Head()
		c.object = h.Kind + " " + h.Metadata.Name + h.Metadata.GenerateName
		switch o := o.(type) {
		case *Task:
			c.task(o)
		case *Pipeline:
			c.pipeline(o)
		case *PipelineRun:
			c.run(o)
		case *CronJob:
			var schedule stream.Cron
			if err := schedule.UnmarshalText([]byte(o.Spec.Schedule)); err != nil {
				c.fault("schedule", "%w", err)
			}
		case *RoleBinding:
			if o.RoleRef.Kind == "Role" && !seen["Role/"+h.Metadata.Namespace+"/"+o.RoleRef.Name] {
				c.fault("roleRef", "there is no Role %s", o.RoleRef.Name)
			}
		}
	}
	return errors.Join(c.faults...)
}

// key finds what an object names in its namespace.
func key(h *Header, name string) string { return h.Metadata.Namespace + "/" + name }

type checker struct {
	tasks     map[string]*Task
	pipelines map[string]*Pipeline
	object    string
	faults    []error
}

func (c *checker) fault(path, format string, args ...any) {
	c.faults = append(c.faults, &Error{Object: c.object, Path: path, Err: fmt.Errorf(format, args...)})
}

// names refuses what is there twice.
func names[T any](c *checker, path string, items []T, of func(T) string) {
	seen := map[string]bool{}
	for _, item := range items {
		n := of(item)
		if seen[n] {
			c.fault(path, "%q is there twice", n)
		}
		seen[n] = true
	}
}

func (c *checker) params(path string, params []ParamSpec) {
	names(c, path, params, func(p ParamSpec) string { return p.Name })
	for _, p := range params {
		switch {
		case p.Type != "" && p.Type != typeString && p.Type != typeArray:
			c.fault(path+"["+p.Name+"]", "type %q is not string or array", p.Type)
		case p.Default != nil && p.Default.isList() != (p.Type == typeArray):
			c.fault(path+"["+p.Name+"]", "the default is of another type than %s", kindOf(p.Type))
		}
	}
}

func kindOf(t string) string {
	if t == typeArray {
		return typeArray
	}
	return typeString
}

// reference is $(…), taken apart.
type reference struct {
	text  string
	parts []string // of a.b.c, a["b"].c and a['b'].c
	all   bool     // ends with [*]
}

var (
	reReference = lazyregexp.New(`\$\(([a-zA-Z][^()$]*)\)`)
	reBracket   = lazyregexp.New(`\[(?:"([^"]*)"|'([^']*)')\]`)
)

func references(text string) []reference {
	var out []reference
	for _, m := range reReference.FindAllStringSubmatch(text, -1) {
		r := reference{text: m[0]}
		var inner string
		inner, r.all = strings.CutSuffix(m[1], "[*]")
		// Names in brackets may have dots.
		var quoted []string
		inner = reBracket.ReplaceAllStringFunc(inner, func(b string) string {
			quoted = append(quoted, b[2:len(b)-2])
			return ".\x00"
		})
		for part := range strings.SplitSeq(inner, ".") {
			if part == "\x00" {
				part, quoted = quoted[0], quoted[1:]
			}
			r.parts = append(r.parts, part)
		}
		out = append(out, r)
	}
	return out
}

func find[T any](items []T, name string, of func(T) string) *T {
	i := slices.IndexFunc(items, func(item T) bool { return of(item) == name })
	if i < 0 {
		return nil
	}
	return &items[i]
}

func paramName(p ParamSpec) string          { return p.Name }
func givenName(p Param) string              { return p.Name }
func workspaceName(w Workspace) string      { return w.Name }
func bindingName(b WorkspaceBinding) string { return b.Name }
func resultName(r Result) string            { return r.Name }
func taskName(t PipelineTask) string        { return t.Name }
func isParams(r reference) bool             { return len(r.parts) >= 2 && r.parts[0] == "params" }
func isResult(r reference) bool {
	return len(r.parts) == 4 && r.parts[0] == "tasks" && r.parts[2] == "results"
}
func isStatus(r reference) bool {
	return len(r.parts) == 3 && r.parts[0] == "tasks" && r.parts[2] == "status"
}
func (r *reference) is(parts ...string) bool { return slices.Equal(r.parts, parts) }
func (r *reference) whole(text string) bool  { return r.text == text }

// param checks a reference to a parameter. list says that the text is an element of a list, which
// a list may take the place of.
func (c *checker) param(path, text string, r reference, params []ParamSpec, list bool) {
	p := find(params, r.parts[1], paramName)
	switch {
	case p == nil:
		c.fault(path, "%s: there is no parameter %q", r.text, r.parts[1])
	case r.all && p.Type != typeArray:
		c.fault(path, "%s: parameter %s is a string, not a list", r.text, p.Name)
	case !r.all && p.Type == typeArray && len(r.parts) == 2:
		c.fault(path, "%s: parameter %s is a list: write $(params.%s[*])", r.text, p.Name, p.Name)
	case r.all && (!list || !r.whole(text)):
		c.fault(path, "%s: a list stands only alone, as an element of a list", r.text)
	}
}

func (c *checker) task(t *Task) {
	s := &t.Spec
	c.params("params", s.Params)
	names(c, "workspaces", s.Workspaces, workspaceName)
	names(c, "results", s.Results, resultName)
	names(c, "steps", s.Steps, func(s Step) string { return s.Name })
	names(c, "volumes", s.Volumes, func(v Volume) string { return v.Name })
	if len(s.Steps) == 0 {
		c.fault("steps", "there are none")
	}
	for i := range s.Steps {
		step := &s.Steps[i]
		path := "steps[" + step.Name + "]"
		text := func(at, text string, list bool) {
			for _, r := range references(text) {
				c.inTask(path+"."+at, text, r, s, list)
			}
		}
		text("image", step.Image, false)
		text("script", step.Script, false)
		text("workingDir", step.WorkDir, false)
		for _, a := range step.Command {
			text("command", a, true)
		}
		for _, a := range step.Args {
			text("args", a, true)
		}
		for _, e := range step.Env {
			text("env["+e.Name+"]", e.Value, false)
		}
		for _, m := range step.Mounts {
			if find(s.Volumes, m.Name, func(v Volume) string { return v.Name }) == nil {
				c.fault(path+".volumeMounts", "there is no volume %q", m.Name)
			}
		}
		// What others choose must not become part of a program.
		if slices.ContainsFunc(references(step.Script), isParams) {
			c.fault(path+".script", "a parameter in a script is run as a part of it: give it by env")
		}
	}
}

func (c *checker) inTask(path, text string, r reference, s *TaskSpec, list bool) {
	switch r.parts[0] {
	case "params":
		if len(r.parts) < 2 {
			c.fault(path, "%s names no parameter", r.text)
			return
		}
		c.param(path, text, r, s.Params, list)
	case "workspaces":
		if len(r.parts) < 2 || find(s.Workspaces, r.parts[1], workspaceName) == nil {
			c.fault(path, "%s: there is no such workspace", r.text)
		}
	case "results":
		if len(r.parts) < 2 || find(s.Results, r.parts[1], resultName) == nil {
			c.fault(path, "%s: there is no such result", r.text)
		}
	case "tasks":
		c.fault(path, "%s: only a pipeline knows tasks", r.text)
	}
}

func (c *checker) pipeline(p *Pipeline) {
	s := &p.Spec
	c.params("params", s.Params)
	names(c, "workspaces", s.Workspaces, workspaceName)
	names(c, "results", s.Results, resultName)
	names(c, "tasks", slices.Concat(s.Tasks, s.Finally), taskName)
	if len(s.Tasks) == 0 {
		c.fault("tasks", "there are none")
	}
	needs := map[string][]string{}
	for i := range s.Tasks {
		t := &s.Tasks[i]
		needs[t.Name] = c.pipelineTask("tasks["+t.Name+"]", p, t, false)
		for _, after := range t.RunAfter {
			if find(s.Tasks, after, taskName) == nil {
				c.fault("tasks["+t.Name+"].runAfter", "there is no task %q", after)
			}
			needs[t.Name] = append(needs[t.Name], after)
		}
	}
	for i := range s.Finally {
		t := &s.Finally[i]
		c.pipelineTask("finally["+t.Name+"]", p, t, true)
		if len(t.RunAfter) > 0 {
			c.fault("finally["+t.Name+"].runAfter", "the last tasks have no order")
		}
	}
	if loop := cycle(s.Tasks, needs); loop != nil {
		c.fault("tasks", "they wait for each other: %s", strings.Join(loop, " -> "))
	}
	for _, r := range s.Results {
		path := "results[" + r.Name + "]"
		found := references(r.Value)
		if len(found) == 0 {
			c.fault(path, "the value %.80q is no result of a task", r.Value)
		}
		for _, ref := range found {
			if !isResult(ref) {
				c.fault(path, "%s is no result of a task", ref.text)
				continue
			}
			c.result(path, p, ref, s.Tasks)
		}
	}
}

// result checks a reference to a result of one of tasks.
func (c *checker) result(path string, p *Pipeline, r reference, tasks []PipelineTask) {
	of := find(tasks, r.parts[1], taskName)
	if of == nil {
		c.fault(path, "%s: there is no task %q", r.text, r.parts[1])
		return
	}
	t := c.tasks[key(p.Head(), of.TaskRef.Name)]
	if t == nil {
		return // said where it is named
	}
	switch found := find(t.Spec.Results, r.parts[3], resultName); {
	case found == nil:
		c.fault(path, "%s: task %s has no result %q", r.text, of.TaskRef.Name, r.parts[3])
	case r.all != (found.Type == typeArray):
		c.fault(path, "%s: result %s is of type %s", r.text, found.Name, kindOf(found.Type))
	}
}

// pipelineTask checks a task of a pipeline, and gives those that it waits for because
// of their results.
func (c *checker) pipelineTask(path string, p *Pipeline, t *PipelineTask, last bool) (needs []string) {
	s := &p.Spec
	text := func(at, text string, list bool) (typ string) {
		typ = typeString
		for _, r := range references(text) {
			switch {
			case r.parts[0] == "params" && len(r.parts) > 1:
				c.param(at, text, r, s.Params, list)
			case r.is("tasks", "status"):
				if !last {
					c.fault(at, "%s is known only at the end", r.text)
				}
			case isStatus(r):
				if !last || find(s.Tasks, r.parts[1], taskName) == nil {
					c.fault(at, "%s is not known here", r.text)
				}
			case r.parts[0] == "tasks":
				if !isResult(r) {
					c.fault(at, "%s is no result of a task", r.text)
					continue
				}
				c.result(at, p, r, s.Tasks)
				needs = append(needs, r.parts[1])
			case r.parts[0] == "workspaces", r.parts[0] == "results":
				c.fault(at, "%s: only a task has it", r.text)
			}
		}
		return typ
	}
	for _, w := range t.When {
		text(path+".when", w.Input, false)
		for _, v := range w.Values {
			text(path+".when", v, true)
		}
		if w.Operator != "in" && w.Operator != "notin" {
			c.fault(path+".when", "operator %q is not in or notin", w.Operator)
		}
	}
	for _, g := range t.Params {
		at := path + ".params[" + g.Name + "]"
		if !g.Value.isList() {
			// A list may be handed on whole.
			refs := references(g.Value.Text)
			text(at, g.Value.Text, len(refs) == 1 && refs[0].all && refs[0].whole(g.Value.Text))
			continue
		}
		for _, v := range g.Value.List {
			text(at, v, true)
		}
	}
	c.timeout(path+".timeout", t.Timeout)
	if t.Retries < 0 {
		c.fault(path+".retries", "%d is none", t.Retries)
	}
	of := c.tasks[key(p.Head(), t.TaskRef.Name)]
	if t.TaskRef.Kind != "" && t.TaskRef.Kind != kindTask {
		c.fault(path+".taskRef", "kind %q is not Task", t.TaskRef.Kind)
		return needs
	}
	if of == nil {
		c.fault(path+".taskRef", "there is no Task %q", t.TaskRef.Name)
		return needs
	}
	c.given(path, of.Spec.Params, t.Params)
	c.bound(path, of.Spec.Workspaces, t.Workspaces, func(at string, b *WorkspaceBinding, w *Workspace) {
		from := find(s.Workspaces, b.Workspace, workspaceName)
		switch {
		case from == nil:
			c.fault(at, "the pipeline has no workspace %q", b.Workspace)
		case from.Optional && !w.Optional:
			c.fault(at, "the pipeline's workspace %q may be left out, and the task needs it", b.Workspace)
		}
	})
	return needs
}

// given compares parameters with the values that they are given.
func (c *checker) given(path string, params []ParamSpec, given []Param) {
	names(c, path+".params", given, givenName)
	for _, g := range given {
		p := find(params, g.Name, paramName)
		at := path + ".params[" + g.Name + "]"
		if p == nil {
			c.fault(at, "there is no such parameter")
			continue
		}
		array := g.Value.isList()
		if refs := references(g.Value.Text); !array && len(refs) == 1 && refs[0].all && refs[0].whole(g.Value.Text) {
			array = true
		}
		if array != (p.Type == typeArray) {
			c.fault(at, "the value is of another type than %s", kindOf(p.Type))
		}
	}
	for _, p := range params {
		if p.Default == nil && find(given, p.Name, givenName) == nil {
			c.fault(path+".params", "%s is required and not given", p.Name)
		}
	}
}

// bound compares workspaces with what they are bound to.
func (c *checker) bound(path string, workspaces []Workspace, bindings []WorkspaceBinding, each func(at string, b *WorkspaceBinding, w *Workspace)) {
	names(c, path+".workspaces", bindings, bindingName)
	for i := range bindings {
		b := &bindings[i]
		at := path + ".workspaces[" + b.Name + "]"
		w := find(workspaces, b.Name, workspaceName)
		if w == nil {
			c.fault(at, "there is no such workspace")
			continue
		}
		each(at, b, w)
	}
	for _, w := range workspaces {
		if !w.Optional && find(bindings, w.Name, bindingName) == nil {
			c.fault(path+".workspaces", "%s is not bound", w.Name)
		}
	}
}

// cycle gives tasks that wait for each other, the first again at the end; nil if none do.
func cycle(tasks []PipelineTask, needs map[string][]string) []string {
	const (
		begun = 1
		done  = 2
	)
	state := map[string]int{}
	var path []string
	var visit func(string) []string
	visit = func(name string) []string {
		switch state[name] {
		case done:
			return nil
		case begun:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[name] = begun
		path = append(path, name)
		for _, n := range needs[name] {
			if loop := visit(n); loop != nil {
				return loop
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, t := range tasks {
		if loop := visit(t.Name); loop != nil {
			return loop
		}
	}
	return nil
}

func (c *checker) timeout(path, text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		c.fault(path, "%.40q is not a duration", text)
	}
	return d
}

func (c *checker) run(r *PipelineRun) {
	s := &r.Spec
	if t := s.Timeouts; t != nil {
		all, tasks, last := c.timeout("timeouts.pipeline", t.Pipeline), c.timeout("timeouts.tasks", t.Tasks), c.timeout("timeouts.finally", t.Finally)
		if all > 0 && tasks+last > all {
			c.fault("timeouts", "tasks and finally take %s, and the pipeline has %s", tasks+last, all)
		}
	}
	p := c.pipelines[key(r.Head(), s.PipelineRef.Name)]
	if p == nil {
		c.fault("pipelineRef", "there is no Pipeline %q", s.PipelineRef.Name)
		return
	}
	c.given("run", p.Spec.Params, s.Params)
	c.bound("run", p.Spec.Workspaces, s.Workspaces, func(at string, b *WorkspaceBinding, _ *Workspace) {
		sources := 0
		for _, set := range []bool{b.Claim != nil, b.ConfigMap != nil, b.Secret != nil, b.EmptyDir != nil} {
			if set {
				sources++
			}
		}
		if sources != 1 {
			c.fault(at, "it is bound to %d volumes, not to one", sources)
		}
	})
	for _, t := range slices.Concat(p.Spec.Tasks, p.Spec.Finally) {
		claims := map[string]bool{}
		for _, b := range t.Workspaces {
			if from := find(s.Workspaces, b.Workspace, bindingName); from != nil && from.Claim != nil {
				claims[from.Claim.ClaimName] = true
			}
		}
		if len(claims) > 1 {
			c.fault("workspaces", "task %s has %d volume claims, and Tekton schedules pods with one", t.Name, len(claims))
		}
	}
}
