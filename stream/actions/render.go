package actions

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/stream"
)

// File is a workflow.
type File struct {
	Path string // in the repository, with "/"
	Data []byte
}

// Render gives the workflows of a stream: the daily build, and the promotion if the
// definition schedules one. Every fault of definition and options is named, among
// them what a run would lack. Same definition and options, same bytes.
func Render(def *stream.Definition, opts *Options) ([]File, error) {
	p, err := newPlan(def, opts)
	if err != nil {
		return nil, err
	}
	files := []File{p.daily()}
	if def.Cadences.Promotion.Schedule != "" {
		files = append(files, p.promotion())
	}
	return files, nil
}

// input is one of a workflow, and the flag that it is for.
type input struct {
	name, flag, path, does string
}

// fromRelease is the input that may be picked.
const fromRelease = "from-release"

// The inputs are those of the pipelines on Tekton.
var (
	dailyInputs = []input{
		{"source", "SOURCE", "os.source", "root filesystem: dir:PATH, tar:PATH or ostree:REPOSITORY:REF on the runner (empty: what the definition names)"},
		{fromRelease, "FROM_RELEASE", "payload.base", "pullspec of the release that the payload starts from (empty: the definition's)"},
		{"extensions", "EXTENSIONS", "extensions.image", "pullspec of the extensions image (empty: the definition's)"},
		{"release-name", "VERSION", "", "version of the release (empty: the next by the definition's scheme)"},
	}
	promotionInputs = []input{
		{"payload", "SOURCE", "", "pullspec of the payload (empty: the newest that is accepted)"},
		{"target-release-name", "VERSION", "", "version that the release is called (empty: the next by the definition's scheme)"},
	}
)

// steps of the daily build are those of publish/daily.
var dailySteps = []struct{ step, does string }{
	{"inputs", "Pin the inputs and name the build"},
	{"commit", "Commit the tree and lint it"},
	{"encapsulate", "Make the base image of the commit"},
	{"node", "Find the node image and its extensions"},
	{"bootimage", "Measure the boot artifacts"},
	{"payload", "Assemble the release image"},
	{"publish", "Publish, pointers last"},
}

// defaultTimeout is for cadences without one.
const defaultTimeout = 4 * time.Hour

func (p *plan) path(of string) string {
	return ".github/workflows/okd-streams-" + p.def.Identity.Name + "-" + of + ".yml"
}

// head begins a workflow.
func (p *plan) head(w *writer, title string, cadence stream.Cadence, inputs []input) {
	w.line("# Written by okd-streams actions render; change the definition, not this file.")
	w.set("name", title+" "+p.def.Identity.Name)
	w.line("")
	w.in("on", func() {
		if cadence.Schedule != "" {
			w.in("schedule", func() { w.item(func() { w.set("cron", string(cadence.Schedule)) }) })
		}
		w.in("workflow_dispatch", func() {
			w.in("inputs", func() {
				for _, in := range inputs {
					w.in(in.name, func() {
						w.set("description", in.does)
						w.set("type", "string")
						w.set("default", p.opts.Inputs[in.name])
					})
				}
			})
		})
	})
	w.line("")
	w.line("# A job says what it needs.")
	w.line("permissions: {}")
	w.line("")
	w.line("# One run at a time writes the stream's index; the others wait.")
	w.in("concurrency", func() {
		w.set("group", "okd-streams-"+p.def.Identity.Name)
		w.line("cancel-in-progress: false")
	})
	w.line("")
	w.in("defaults", func() { w.in("run", func() { w.set("shell", "bash") }) })
	w.line("")
}

// permissions are those of a job.
func (p *plan) permissions(w *writer, promotion bool) {
	rights := map[string]string{}
	if p.fetches() {
		rights["contents"] = "read"
	}
	if promotion && p.announcesHere() {
		rights["contents"] = "write"
	}
	if p.ownToken() {
		rights["packages"] = "write"
	} else if strings.HasPrefix(p.opts.Image, ghcr+"/") {
		rights["packages"] = "read"
	}
	if len(rights) == 0 {
		w.line("permissions: {}")
		return
	}
	w.in("permissions", func() {
		for _, scope := range []string{"contents", "packages"} {
			if rights[scope] != "" {
				w.set(scope, rights[scope])
			}
		}
	})
}

const ghcr = "ghcr.io"

// ownToken reports whether images are pushed with the run's own token.
func (p *plan) ownToken() bool {
	return p.def.Registry.Credentials == nil && strings.HasPrefix(p.def.Registry.Repository, ghcr+"/")
}

// announcesHere reports whether releases are announced with the run's own token.
func (p *plan) announcesHere() bool { return p.def.GitHub != nil && p.def.GitHub.Credentials == nil }

// fetches reports whether the workflows' repository is fetched.
func (p *plan) fetches() bool { return p.opts.Checkout || p.opts.Context != "" }

func timeout(c stream.Cadence) string {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	return fmt.Sprint(int((c.Timeout + time.Minute - 1) / time.Minute))
}

// value gives an input as an expression: a run by schedule has none.
func (p *plan) value(in input) string {
	if v := p.opts.Inputs[in.name]; v != "" {
		return "${{ inputs." + in.name + " || " + quoted(v) + " }}"
	}
	return "${{ inputs." + in.name + " }}"
}

func (p *plan) daily() File {
	w := &writer{}
	p.head(w, "Build", p.def.Cadences.Daily, dailyInputs)
	w.in("jobs", func() {
		w.in("build", func() {
			w.set("name", "Build for ${{ matrix.arch }}")
			w.set("runs-on", "${{ matrix.runner }}")
			w.line("timeout-minutes: " + timeout(p.def.Cadences.Daily))
			p.permissions(w, false)
			w.in("strategy", func() {
				w.line("fail-fast: false")
				w.line("max-parallel: 1 # they write one index")
				w.in("matrix", func() {
					w.in("include", func() {
						for _, arch := range p.def.Architectures {
							w.item(func() {
								w.set("arch", string(arch))
								w.set("runner", p.runner(arch))
							})
						}
					})
				})
			})
			p.environment(w, false, func() { w.set("OKD_STREAMS_ARCH", "${{ matrix.arch }}") })
			w.in("steps", func() {
				p.program(w)
				p.prepare(w, false)
				p.checkout(w)
				p.cache(w)
				p.pick(w)
				for _, s := range dailySteps {
					w.item(func() {
						w.set("name", s.does)
						if s.step != "inputs" {
							w.set("run", "okd-streams build "+s.step)
							return
						}
						w.in("env", func() {
							for _, in := range dailyInputs {
								value := p.value(in)
								if in.name == fromRelease && p.picks() {
									value = "${{ steps.pick.outputs.release }}"
								}
								w.set("OKD_STREAMS_"+in.flag, value)
							}
						})
						w.block("run", "okd-streams build inputs\necho \"OKD_STREAMS_BUILD=$(cat \"$OKD_STREAMS_RESULTS_DIR/build\")\" >> \"$GITHUB_ENV\"\n")
					})
				}
				p.end(w, stream.OnSuccess, "release-name", "")
			})
		})
	})
	return File{p.path("daily"), []byte(w.b.String())}
}

// pick finds the release that the payload starts from.
func (p *plan) pick(w *writer) {
	if !p.picks() {
		return
	}
	w.item(func() {
		w.set("name", "Pick the release that the payload starts from")
		w.set("id", "pick")
		w.in("env", func() { w.set("OKD_STREAMS_RELEASE", "${{ inputs."+fromRelease+" }}") })
		w.block("run", "okd-streams tekton pick\necho \"release=$(cat \"$OKD_STREAMS_RESULTS_DIR/release-pullspec\")\" >> \"$GITHUB_OUTPUT\"\n")
	})
}

func (p *plan) promotion() File {
	w := &writer{}
	p.head(w, "Promote", p.def.Cadences.Promotion, promotionInputs)
	const isDue = "steps.due.outputs.due == 'true'"
	w.in("jobs", func() {
		w.in("promote", func() {
			w.set("runs-on", p.runner(p.def.Architectures[0]))
			w.line("timeout-minutes: " + timeout(p.def.Cadences.Promotion))
			p.permissions(w, true)
			p.environment(w, true, func() {
				w.set("OKD_STREAMS_STORE", literal(storeURL(p.def.Store)))
				w.set("OKD_STREAMS_NO_IMAGE_STREAM", "true")
				if !p.signs() {
					w.set("OKD_STREAMS_UNSIGNED", "true")
				}
				if p.def.GitHub == nil {
					w.set("OKD_STREAMS_NO_TOOLS", "true") // nobody would get them
				}
				if p.opts.Flow != "" {
					w.set("OKD_STREAMS_FLOW", literal(p.opts.Flow))
				}
			})
			w.in("steps", func() {
				p.program(w)
				p.prepare(w, true)
				w.item(func() {
					w.set("name", "Ask whether it is due")
					w.set("id", "due")
					w.in("env", func() { w.set("BY_HAND", "${{ github.event_name == 'workflow_dispatch' }}") })
					w.block("run", `okd-streams release due
if "$BY_HAND"; then echo true > "$OKD_STREAMS_RESULTS_DIR/due"; fi
echo "due=$(cat "$OKD_STREAMS_RESULTS_DIR/due")" >> "$GITHUB_OUTPUT"
`)
				})
				w.item(func() {
					w.set("name", "Promote the payload, or go on")
					w.set("if", isDue)
					w.in("env", func() {
						for _, in := range promotionInputs {
							w.set("OKD_STREAMS_"+in.flag, p.value(in))
						}
						if p.announcesHere() {
							w.set("GITHUB_TOKEN", "${{ github.token }}")
						}
					})
					w.set("run", `okd-streams release promote --by "GitHub run $GITHUB_RUN_ID"`)
				})
				p.end(w, stream.OnPromotion, "target-release-name", isDue)
			})
		})
	})
	return File{p.path("promotion"), []byte(w.b.String())}
}

// environment is that of all steps of a job.
func (p *plan) environment(w *writer, promotion bool, more func()) {
	w.in("env", func() {
		more()
		for _, s := range p.secrets(promotion) {
			if s.env != "" {
				w.set(s.env, "${{ secrets."+s.name+" }}")
			}
		}
	})
}

// program takes okd-streams out of the task image.
func (p *plan) program(w *writer) {
	w.item(func() {
		w.set("name", "Get okd-streams")
		w.in("env", func() {
			w.set("IMAGE", p.opts.Image)
			if strings.HasPrefix(p.opts.Image, ghcr+"/") {
				w.set("TOKEN", "${{ github.token }}")
			}
		})
		text := "engine=$(command -v docker || command -v podman)\n"
		if strings.HasPrefix(p.opts.Image, ghcr+"/") {
			text += "printf %s \"$TOKEN\" | \"$engine\" login --username \"$GITHUB_ACTOR\" --password-stdin " + ghcr + "\n"
		}
		w.block("run", text+`bin=$RUNNER_TEMP/okd-streams/bin
mkdir -p "$bin"
container=$("$engine" create "$IMAGE" version)
"$engine" cp "$container:/usr/bin/okd-streams" "$bin/okd-streams"
"$engine" rm "$container" > /dev/null
echo "$bin" >> "$GITHUB_PATH"
"$bin/okd-streams" version
`)
	})
}

// prepare writes definition and secrets where the commands look for them.
func (p *plan) prepare(w *writer, promotion bool) {
	all := p.secrets(promotion)
	w.item(func() {
		w.set("name", "Prepare")
		w.in("env", func() {
			w.block("DEFINITION", literal(p.text))
			for _, s := range all {
				if s.env == "" {
					w.set(s.name, "${{ secrets."+s.name+" }}")
				}
			}
			if p.ownToken() {
				w.set("TOKEN", "${{ github.token }}")
			}
			if promotion && p.signs() {
				w.block("PUBLIC_KEYS", p.opts.PublicKeys)
			}
		})
		var b strings.Builder
		if len(all) > 0 {
			b.WriteString("for secret in")
			for _, s := range all {
				b.WriteString(" " + s.name)
			}
			b.WriteString("; do\n  if [ -z \"${!secret}\" ]; then echo \"::error::the repository has no secret $secret\"; lacking=yes; fi\ndone\n[ -z \"${lacking-}\" ]\n")
		}
		b.WriteString("umask 077\ndir=$RUNNER_TEMP/okd-streams\nstate=" + p.state("$dir") + "\nmkdir -p \"$state\" \"$dir/results\" \"$dir/secrets\"\nprintf %s \"$DEFINITION\" > \"$dir/stream.yaml\"\n")
		for _, s := range all {
			if s.env == "" {
				fmt.Fprintf(&b, "mkdir -p \"$dir/secrets/%s\"\nprintf %%s \"$%s\" > \"$dir/secrets/%[1]s/%[3]s\"\n", s.from, s.name, s.key)
			}
		}
		vars := []string{"OKD_STREAMS_STREAM=$dir/stream.yaml", "OKD_STREAMS_STATE=$state", "OKD_STREAMS_RESULTS_DIR=$dir/results", "OKD_STREAMS_SECRETS=$dir/secrets"}
		if c := p.def.Store.Credentials; c != nil && c.Keys["file"] != "" {
			vars = append(vars, "AWS_SHARED_CREDENTIALS_FILE=$dir/secrets/"+c.Secret+"/"+c.Keys["file"])
		}
		switch c := p.def.Registry.Credentials; {
		case p.ownToken():
			b.WriteString("printf '{\"auths\":{\"" + ghcr + "\":{\"auth\":\"%s\"}}}' \"$(printf %s \"$GITHUB_ACTOR:$TOKEN\" | base64 --wrap=0)\" > \"$dir/auth.json\"\n")
			vars = append(vars, "OKD_STREAMS_AUTHFILE=$dir/auth.json")
		case c != nil && c.Keys["file"] != "":
			vars = append(vars, "OKD_STREAMS_AUTHFILE=$dir/secrets/"+c.Secret+"/"+c.Keys["file"])
		}
		if promotion && p.signs() {
			b.WriteString("printf %s \"$PUBLIC_KEYS\" > \"$dir/public.asc\"\n")
			vars = append(vars, "OKD_STREAMS_PUBLIC_KEY=$dir/public.asc")
		}
		b.WriteString("{\n")
		for _, v := range vars {
			b.WriteString("  echo \"" + v + "\"\n")
		}
		b.WriteString("} >> \"$GITHUB_ENV\"\n")
		w.block("run", b.String())
	})
}

// state is the folder that is kept, if there is one, below dir.
func (p *plan) state(dir string) string {
	if p.opts.State != "" {
		return shell(p.opts.State)
	}
	return dir + "/state"
}

// checkout fetches what the node image is built in, and what the definition names.
func (p *plan) checkout(w *writer) {
	const builder = `{
  echo "OKD_STREAMS_NODE_CONTEXT=$context"
  echo "OKD_STREAMS_BUILDAH_STORAGE=$RUNNER_TEMP/okd-streams/buildah"
  echo "OKD_STREAMS_BUILDAH_DRIVER=vfs"
  echo "OKD_STREAMS_BUILDAH_ISOLATION=chroot"
} >> "$GITHUB_ENV"
`
	if p.fetches() {
		w.item(func() {
			w.set("name", "Get this repository")
			w.in("env", func() { w.set("TOKEN", "${{ github.token }}") })
			text := `export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="http.$GITHUB_SERVER_URL/.extraheader"
GIT_CONFIG_VALUE_0="AUTHORIZATION: basic $(printf %s "x-access-token:$TOKEN" | base64 --wrap=0)"
export GIT_CONFIG_VALUE_0
git init --quiet .
git fetch --quiet --depth 1 "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY" "$GITHUB_SHA"
git checkout --quiet --force --detach FETCH_HEAD
`
			if p.opts.Context != "" {
				text += "context=$GITHUB_WORKSPACE/" + shell(p.opts.Context) + "\n" + builder
			}
			w.block("run", text)
		})
	}
	source := p.def.OS.Source
	if p.opts.Context != "" || p.profile.Kind != stream.Layer || source.Git == "" {
		return
	}
	want := source.Commit
	if want == "" {
		want = string(p.profile.Ref)
	}
	if want == "" {
		want = "HEAD"
	}
	w.item(func() {
		w.set("name", "Get the sources of the node image")
		w.in("env", func() {
			w.set("REPOSITORY", literal(source.Git))
			w.set("REF", literal(want))
		})
		w.block("run", `context=$RUNNER_TEMP/okd-streams/os
git init --quiet "$context"
git -C "$context" fetch --quiet --depth 1 -- "$REPOSITORY" "$REF"
git -C "$context" checkout --quiet --detach FETCH_HEAD
`+builder)
	})
}

// shell quotes a word for the shell.
func shell(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// cache keeps the state folder, if an action may do that.
func (p *plan) cache(w *writer) {
	commit := p.opts.Actions[actionCache]
	if commit == "" || p.opts.State != "" {
		return
	}
	w.item(func() {
		w.set("name", "Keep what was built")
		w.set("uses", actionCache+"@"+commit)
		w.in("with", func() {
			w.set("path", "${{ runner.temp }}/okd-streams/state")
			w.set("key", "okd-streams-"+p.def.Identity.Name+"-${{ matrix.arch }}-${{ github.run_id }}")
			w.set("restore-keys", "okd-streams-"+p.def.Identity.Name+"-${{ matrix.arch }}-")
		})
	})
}

// end says how a run ended: on its page, to people, and as an artifact. when is a
// condition for success to be told.
func (p *plan) end(w *writer, good stream.Occasion, release, when string) {
	w.item(func() {
		w.set("name", "Say how it ended")
		w.set("if", "always()")
		w.in("env", func() { w.set("STATUS", "${{ job.status }}") })
		w.block("run", `{
  echo "**$STATUS**"
  echo
  echo "| result | value |"
  echo "| --- | --- |"
  for file in "${OKD_STREAMS_RESULTS_DIR:-none}"/*; do
    if [ -s "$file" ]; then echo "| ${file##*/} | $(tr -c 'A-Za-z0-9@:/._+=, -' ' ' < "$file") |"; fi
  done
} >> "$GITHUB_STEP_SUMMARY"
`)
	})
	if commit := p.opts.Actions[actionUpload]; commit != "" {
		w.item(func() {
			w.set("name", "Keep the report")
			w.set("if", "always()")
			w.set("uses", actionUpload+"@"+commit)
			w.in("with", func() {
				name := "report"
				if good != stream.OnPromotion {
					name += "-${{ matrix.arch }}"
				}
				w.set("name", name)
				state := p.opts.State
				if state == "" {
					state = "${{ runner.temp }}/okd-streams/state"
				}
				w.block("path", "${{ runner.temp }}/okd-streams/results\n"+state+"/*/report.html\n")
				w.set("if-no-files-found", "ignore")
			})
		})
	}
	for _, told := range []struct {
		occasion  stream.Occasion
		condition string
		release   bool
	}{{good, and("success()", when), true}, {stream.OnFailure, "failure()", false}} {
		if !slices.ContainsFunc(p.def.Notifications, func(n stream.Notification) bool { return slices.Contains(n.On, told.occasion) }) {
			continue
		}
		w.item(func() {
			w.set("name", "Tell people of "+string(told.occasion))
			w.set("if", told.condition)
			text := "okd-streams notify --occasion " + string(told.occasion)
			if told.release {
				text += ` --release "$(cat "$OKD_STREAMS_RESULTS_DIR/` + release + `")"`
			}
			w.block("run", text+` --link "run=$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID"`+"\n")
		})
	}
	w.item(func() {
		w.set("name", "Remove the secrets")
		w.set("if", "always()")
		w.set("run", `rm -rf "$RUNNER_TEMP/okd-streams/secrets" "$RUNNER_TEMP/okd-streams/auth.json"`)
	})
}

func and(a, b string) string {
	if b == "" {
		return a
	}
	return a + " && " + b
}
