package disk

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// platformKey is what the platform is named by among kernel arguments.
const platformKey = "ignition.platform.id="

// optionsOf gives the kernel arguments of a boot loader entry. The line begins
// with options and a blank; there may be several.
func optionsOf(entry string) (all []string) {
	for line := range strings.Lines(entry) {
		if options, ok := optionsLine(line); ok {
			for _, text := range fields(options) {
				all = append(all, text)
			}
		}
	}
	return all
}

func optionsLine(line string) (options string, ok bool) {
	rest, ok := strings.CutPrefix(line, "options")
	return rest, ok && (strings.HasPrefix(rest, " ") || strings.HasPrefix(rest, "\t"))
}

// platformIn gives the platform among arguments, "" for none. The last one counts.
func platformIn(arguments []string) string {
	for _, a := range slices.Backward(arguments) {
		if id, ok := strings.CutPrefix(a, platformKey); ok {
			return id
		}
	}
	return ""
}

// restamp writes an entry anew: platform ids and, once each, the arguments in
// drop go, then the new ones are at the end of the first line of options, as
// coreos-assembler and osbuild write them. Those of drop are looked for behind the
// platform that counts first, where they were written with it, and then from the end.
func restamp(entry, platform string, drop, add []string) string {
	drop = slices.Clone(drop)
	add = append([]string{platformKey + platform}, add...)
	lines := slices.Collect(strings.Lines(entry))
	first, counts := -1, -1
	var words []word // that may go
	for i, line := range lines {
		options, ok := optionsLine(line)
		if !ok {
			continue
		}
		if first < 0 {
			first = i
		}
		for from, text := range fields(options) {
			from += len(line) - len(options)
			id := strings.HasPrefix(text, platformKey)
			if id {
				counts = len(words)
			}
			if id || slices.Contains(drop, text) {
				words = append(words, word{i, from, text, id})
			}
		}
	}
	search := func(w *word) {
		if at := slices.Index(drop, w.text); at >= 0 && !w.goes {
			drop, w.goes = slices.Delete(drop, at, at+1), true
		}
	}
	for i := counts + 1; i < len(words); i++ {
		search(&words[i])
	}
	for i := range slices.Backward(words) {
		w := &words[i]
		if search(w); !w.goes {
			continue
		}
		line := lines[w.line]
		before := strings.TrimRight(line[:w.from], " \t")
		lines[w.line] = before + line[w.from+len(w.text):]
	}
	if first >= 0 {
		line := lines[first]
		text := strings.TrimRight(line, " \t\r\n")
		lines[first] = text + " " + strings.Join(add, " ") + line[len(strings.TrimRight(line, "\r\n")):]
	} else {
		if n := len(lines); n > 0 && !strings.HasSuffix(lines[n-1], "\n") {
			lines[n-1] += "\n"
		}
		lines = append(lines, "options "+strings.Join(add, " ")+"\n")
	}
	return strings.Join(lines, "")
}

// word is a kernel argument in a line, and whether it goes.
type word struct {
	line, from int
	text       string
	goes       bool
}

// fields gives the words of text and where they are. Blanks are those of the kernel
// that are ASCII: what divides words for it must do so here, and nothing else.
func fields(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for at := 0; at < len(text); {
			n := strings.IndexAny(text[at:], " \t\n\v\f\r")
			if n < 0 {
				n = len(text) - at
			}
			if n > 0 && !yield(at, text[at:at+n]) {
				return
			}
			at += n + 1
		}
	}
}

// The lines between which GRUB's configuration has what a platform's consoles need.
const (
	settingsStart = "# CONSOLE-SETTINGS-START\n"
	settingsEnd   = "# CONSOLE-SETTINGS-END\n"
)

// settings finds the place of the commands.
func settings(config string) (from, to int, ok bool) {
	from = strings.Index("\n"+config, "\n"+settingsStart)
	if from < 0 {
		return 0, 0, false
	}
	from += len(settingsStart)
	rest := "\n" + config[from:]
	to = strings.Index(rest, "\n"+settingsEnd)
	return from, from + to, to >= 0
}

// resettle writes the configuration with other commands. If they are those that
// are there, nothing changes.
func resettle(config string, commands []string) (string, error) {
	from, to, ok := settings(config)
	if !ok {
		return "", fmt.Errorf("has no lines %q and %q: %w", strings.TrimSpace(settingsStart), strings.TrimSpace(settingsEnd), errNoSettings)
	}
	text := strings.Join(commands, "\n")
	if strings.TrimSpace(config[from:to]) == text {
		return config, nil
	}
	if text != "" {
		text += "\n"
	}
	return config[:from] + text + config[to:], nil
}
