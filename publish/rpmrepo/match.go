package rpmrepo

import (
	"path"
	"slices"
	"strings"

	"github.com/okd-project/okd-streams/internal/rpmdb"
	"github.com/okd-project/okd-streams/stream"
)

// compatible are the architectures of packages that a machine takes, the best
// first.
func compatible(arch stream.Arch) []string {
	if arch == "x86_64" {
		return []string{"x86_64", "noarch", "i686", "i586", "i486", "i386"}
	}
	return []string{string(arch), "noarch"}
}

// forms are how a package is called, as dnf has it.
func (p *pkg) forms() []string {
	vr := p.version + "-" + p.release
	evr := p.epoch + ":" + vr
	if p.epoch == "" {
		evr = "0:" + vr
	}
	ev := strings.TrimSuffix(evr, "-"+p.release)
	forms := []string{p.name, p.name + "." + p.arch}
	for _, version := range []string{p.version, ev, vr, evr} {
		forms = append(forms, p.name+"-"+version)
	}
	return append(forms, p.name+"-"+vr+"."+p.arch, p.name+"-"+evr+"."+p.arch)
}

// names are what packages can be called that want may mean: all that ends before
// a "-" or ".", and want itself.
func names(want string) []string {
	all := []string{want}
	for i := 1; i < len(want); i++ {
		if want[i] == '-' || want[i] == '.' {
			all = append(all, want[:i])
		}
	}
	return all
}

// hides says whether include and exclude of a repository hide a package.
func hides(include, exclude []string, p *pkg) bool {
	if len(include)+len(exclude) == 0 {
		return false
	}
	forms := p.forms()
	matches := func(pattern string) bool {
		pattern = strings.ReplaceAll(pattern, "[!", "[^")
		return slices.ContainsFunc(forms, func(form string) bool {
			ok, err := path.Match(pattern, form)
			return ok && err == nil || form == pattern
		})
	}
	return slices.ContainsFunc(exclude, matches) || len(include) > 0 && !slices.ContainsFunc(include, matches)
}

// older says whether a package is older than another that is called the same.
func older(a, b *pkg) bool {
	return rpmdb.CompareEVR(a.epoch, a.version, a.release, b.epoch, b.version, b.release) < 0
}

// maxNear is how many names are suggested.
const maxNear = 3

// near finds names that somebody may have meant, the nearest first.
func near(want string, known map[string]bool) []string {
	type candidate struct {
		name     string
		distance int
	}
	most := max(2, len(want)/4)
	words := strings.Split(want, "-")
	var all []candidate
	for name := range known {
		if name == want {
			continue
		}
		d := distance(want, name, most)
		if shared := sharedWords(words, name); d > most && shared >= 2 && 2*shared >= len(words) {
			d = most + 1 + len(words) - shared
		}
		if d <= most+len(words) {
			all = append(all, candidate{name, d})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if a.distance != b.distance {
			return a.distance - b.distance
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range all[:min(len(all), maxNear)] {
		out = append(out, c.name)
	}
	return out
}

// sharedWords counts the words of a name that all are among words; 0 if one is
// not.
func sharedWords(words []string, name string) int {
	n := 0
	for word := range strings.SplitSeq(name, "-") {
		if !slices.Contains(words, word) {
			return 0
		}
		n++
	}
	return n
}

// tooFar is a distance over what was asked for.
const tooFar = 1 << 20

// distance is how many letters are to be changed, added or removed to make b of
// a, or tooFar if more than most.
func distance(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return tooFar
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, least := row[0], i
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := before
			if a[i-1] != b[j-1] {
				change++
			}
			before = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
			least = min(least, row[j])
		}
		if least > most {
			return tooFar
		}
	}
	if row[len(b)] > most {
		return tooFar
	}
	return row[len(b)]
}
