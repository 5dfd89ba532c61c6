package ui

import "strings"

// Wrap puts words on lines of so many characters, the following ones indented.
func Wrap(words []string, width int) string {
	var text strings.Builder
	line := 0
	for i, word := range words {
		switch {
		case i == 0:
		case line+2+len(word) > width:
			text.WriteString(",\n  ")
			line = 0
		default:
			text.WriteString(", ")
			line += 2
		}
		text.WriteString(word)
		line += len(word)
	}
	return text.String()
}
