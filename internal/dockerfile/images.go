package dockerfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Scratch is what is no image, but nothing.
const Scratch = "scratch"

// Options say how a file is built.
type Options struct {
	// Args are build arguments. Those that no ARG declares are not seen.
	Args map[string]string
	// Target is the stage to build, by name or number; "": the last.
	Target string
	// From, if not "", takes the place of the image that the target is FROM, be it
	// a stage or not.
	From string
	// OS and Architecture as Go spells them, for variables as TARGETARCH.
	OS, Architecture string
}

// Image is one that a build is made from.
type Image struct {
	Name string // as the file names it, variables replaced
	Line int    // where it does first
}

// Images lists the images that the target needs from outside, by first use, each
// once. What only other stages need is not there.
func (f *File) Images(opts *Options) ([]Image, error) {
	var list []Image
	seen := map[string]bool{}
	_, err := f.walk(opts, func(name string, line int) (string, error) {
		if !seen[name] {
			seen[name] = true
			list = append(list, Image{name, line})
		}
		return name, nil
	})
	return list, err
}

// Replace writes the file with other images in place of those that [File.Images]
// lists. It has the stages that the target needs and no others, the target last,
// and no --platform. An image that instead does not have is an error.
func (f *File) Replace(opts *Options, instead map[string]string) ([]byte, error) {
	return f.walk(opts, func(name string, line int) (string, error) {
		to, ok := instead[name]
		if !ok {
			return "", fmt.Errorf("line %d: image %s has no replacement", line, name)
		}
		return to, nil
	})
}

// Declares reports whether the file has an ARG of that name, in any stage.
func (f *File) Declares(name string) bool {
	has := func(list []instruction) bool {
		return slices.ContainsFunc(list, func(in instruction) bool {
			return in.name == "ARG" && slices.ContainsFunc(strings.Fields(in.text), func(w string) bool {
				declared, _, _ := strings.Cut(w, "=")
				return declared == name
			})
		})
	}
	return has(f.args) || slices.ContainsFunc(f.stages, func(s stage) bool { return has(s.rest) })
}

// walker goes through the stages that a target needs.
type walker struct {
	file   *File
	opts   *Options
	global map[string]string
	target int
	needed []bool
	number []int // of a stage among those needed
	image  func(name string, line int) (string, error)
	// expanded counts for maxExpanded.
	expanded int
}

func (f *File) walk(opts *Options, image func(string, int) (string, error)) ([]byte, error) {
	if opts == nil {
		opts = &Options{}
	}
	w := &walker{file: f, opts: opts, image: image, needed: make([]bool, len(f.stages)), number: make([]int, len(f.stages))}
	var err error
	if w.global, err = w.args(f.args, w.platform()); err != nil {
		return nil, err
	}
	if w.target, err = w.findTarget(); err != nil {
		return nil, err
	}
	// A stage needs only earlier ones.
	w.needed[w.target] = true
	for n := w.target; n >= 0; n-- {
		if !w.needed[n] {
			continue
		}
		if _, err := w.stage(n, func(r reference) (string, error) {
			if k := w.find(r, n); k >= 0 {
				w.needed[k] = true
			}
			return r.text, nil
		}); err != nil {
			return nil, err
		}
	}
	count := 0
	for n, needed := range w.needed {
		w.number[n] = count
		if needed {
			count++
		}
	}
	var out strings.Builder
	if f.escape != '\\' {
		out.WriteString("# escape=`\n")
	}
	for _, in := range f.args {
		out.WriteString(line(in.raw))
	}
	for n := range w.target + 1 {
		if !w.needed[n] {
			continue
		}
		text, err := w.stage(n, func(r reference) (string, error) {
			k := w.find(r, n)
			switch {
			case k < 0 && strings.EqualFold(r.text, Scratch):
				return r.text, nil
			case k < 0 && r.text == "":
				return "", fmt.Errorf("line %d: no image is left when its variables are replaced", r.line)
			case k < 0:
				return w.image(r.text, r.line)
			case f.stages[k].name != strings.ToLower(r.text):
				return strconv.Itoa(w.number[k]), nil
			}
			return r.text, nil
		})
		if err != nil {
			return nil, err
		}
		out.WriteString(text)
	}
	return []byte(out.String()), nil
}

func line(raw string) string { return strings.TrimRight(raw, "\r\n") + "\n" }

func (w *walker) platform() map[string]string {
	vars := map[string]string{}
	if w.opts.OS != "" {
		for _, prefix := range []string{"BUILD", "TARGET"} {
			vars[prefix+"OS"], vars[prefix+"ARCH"], vars[prefix+"VARIANT"] = w.opts.OS, w.opts.Architecture, ""
			vars[prefix+"PLATFORM"] = w.opts.OS + "/" + w.opts.Architecture
		}
	}
	return vars
}

func (w *walker) findTarget() (int, error) {
	last := len(w.file.stages) - 1
	if w.opts.Target == "" {
		return last, nil
	}
	for n := last; n >= 0; n-- {
		if w.file.stages[n].name == strings.ToLower(w.opts.Target) {
			return n, nil
		}
	}
	if n, err := strconv.Atoi(w.opts.Target); err == nil && n >= 0 && n <= last {
		return n, nil
	}
	return 0, fmt.Errorf("no stage %.100q", w.opts.Target)
}

// find gives the stage before n that a text names, -1 if it is none. FROM knows
// stages by name alone.
func (w *walker) find(r reference, n int) int {
	if r.outside {
		return -1
	}
	lower := strings.ToLower(r.text)
	for k := n - 1; k >= 0; k-- {
		if name := w.file.stages[k].name; name != "" && name == lower {
			return k
		}
	}
	if k, err := strconv.Atoi(r.text); !r.from && err == nil && k >= 0 && k < n {
		return k
	}
	return -1
}

// args gives the values of variables after ARG instructions.
func (w *walker) args(list []instruction, vars map[string]string) (map[string]string, error) {
	for _, in := range list {
		if in.name != "ARG" {
			continue
		}
		if err := w.arg(in, vars); err != nil {
			return nil, err
		}
	}
	return vars, nil
}

func (w *walker) arg(in instruction, vars map[string]string) error {
	for _, field := range words(in.text) {
		name, text, hasDefault := strings.Cut(field, "=")
		if given, ok := w.opts.Args[name]; ok {
			vars[name] = given
			continue
		}
		if !hasDefault {
			if v, ok := w.global[name]; ok {
				vars[name] = v
			}
			continue
		}
		value, err := w.expand(text, vars)
		if err != nil {
			return fmt.Errorf("line %d: ARG %.100s: %w", in.line, name, err)
		}
		vars[name] = value
	}
	return nil
}

// words cuts at blanks outside of quotes.
func words(text string) []string {
	var list []string
	var quote rune
	from := -1
	for i, r := range text {
		switch {
		case quote == 0 && r == ' ':
			if from >= 0 {
				list = append(list, text[from:i])
			}
			from = -1
			continue
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case r == quote:
			quote = 0
		}
		if from < 0 {
			from = i
		}
	}
	if from >= 0 {
		list = append(list, text[from:])
	}
	return list
}

// reference is where a stage names an image or another stage.
type reference struct {
	text    string // variables replaced
	line    int
	from    bool // of FROM, which knows stages by name alone
	outside bool // it can be no stage
}

// stage gives the text of a stage with each reference to an image or a stage
// replaced.
func (w *walker) stage(n int, replace func(reference) (string, error)) (string, error) {
	s := &w.file.stages[n]
	r := reference{line: s.from.line, from: true}
	var err error
	if n == w.target && w.opts.From != "" {
		r.text, r.outside = w.opts.From, true
	} else if r.text, err = w.expand(s.image, w.global); err != nil {
		return "", fmt.Errorf("line %d: FROM %w", r.line, err)
	}
	image, err := replace(r)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString("FROM " + image)
	if s.name != "" {
		out.WriteString(" AS " + s.name)
	}
	out.WriteString("\n")
	vars := map[string]string{}
	for _, in := range s.rest {
		done := 0 // bytes of in.raw
		switch in.name {
		case "ARG":
			if err := w.arg(in, vars); err != nil {
				return "", err
			}
		case "COPY", "ADD":
			for _, v := range in.flag("from") {
				if done, err = w.substitute(&out, in, done, "--from=", v, vars, replace); err != nil {
					return "", err
				}
			}
		case "RUN":
			for _, mount := range in.flag("mount") {
				for _, option := range mount.split() {
					if v, ok := option.after("from="); ok {
						if done, err = w.substitute(&out, in, done, "from=", v, vars, replace); err != nil {
							return "", err
						}
					}
				}
			}
		}
		out.WriteString(line(in.raw[done:]))
	}
	return out.String(), nil
}

// substitute writes what is between done and prefix, and what the text behind
// prefix refers to in its place. It gives where in.raw goes on.
func (w *walker) substitute(out *strings.Builder, in instruction, done int, prefix string, written excerpt, vars map[string]string, replace func(reference) (string, error)) (int, error) {
	text, err := w.expand(written.text, vars)
	if err != nil {
		return 0, fmt.Errorf("line %d: %s%w", in.line, prefix, err)
	}
	to, err := replace(reference{text: text, line: in.line})
	if err != nil {
		return 0, err
	}
	at, ok := in.place(written)
	if !ok {
		return 0, fmt.Errorf("line %d: %s%.100s: a line break in it: %w", in.line, prefix, written.text, errors.ErrUnsupported)
	}
	out.WriteString(in.raw[done:at])
	out.WriteString(to)
	return at + len(written.text), nil
}
