package disk

import (
	"fmt"
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
			all = append(all, strings.Fields(options)...)
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
// coreos-assembler and osbuild write them.
func restamp(entry, platform string, drop, add []string) string {
	drop = slices.Clone(drop)
	add = append([]string{platformKey + platform}, add...)
	lines := slices.Collect(strings.Lines(entry))
	first := -1
	for i, line := range slices.Backward(lines) {
		options, ok := optionsLine(line)
		if !ok {
			continue
		}
		first = i
		head := line[:len(line)-len(options)]
		end := options[len(strings.TrimRight(options, "\r\n")):]
		for word := range backwardFields(options) {
			text := options[word[0]:word[1]]
			if at := slices.Index(drop, text); at >= 0 {
				drop = slices.Delete(drop, at, at+1)
			} else if !strings.HasPrefix(text, platformKey) {
				continue
			}
			from := word[0]
			for from > 0 && (options[from-1] == ' ' || options[from-1] == '\t') {
				from--
			}
			options = options[:from] + options[word[1]:]
		}
		lines[i] = head + strings.TrimRight(options, "\r\n") + end
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

// backwardFields gives where the words of text are, from the last one.
func backwardFields(text string) func(yield func([2]int) bool) {
	return func(yield func([2]int) bool) {
		blank := func(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
		for end := len(text); end > 0; {
			if blank(text[end-1]) {
				end--
				continue
			}
			start := end
			for start > 0 && !blank(text[start-1]) {
				start--
			}
			if !yield([2]int{start, end}) {
				return
			}
			end = start
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
