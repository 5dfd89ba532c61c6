package ui

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Formats of results; a command may have more.
const (
	Text       = "text"
	JSONFormat = "json"
	YAMLFormat = "yaml"
)

// format is the value of --output.
type format struct {
	value   string
	allowed []string
}

// NewFormat is a flag for the format of results: text, json, yaml and more.
func NewFormat(more ...string) pflag.Value {
	return &format{Text, append([]string{Text, JSONFormat, YAMLFormat}, more...)}
}

func (f *format) String() string { return f.value }
func (f *format) Type() string   { return "format" }

// Set takes one of the formats.
func (f *format) Set(text string) error {
	if !slices.Contains(f.allowed, text) {
		return Usagef("it is one of %s", strings.Join(f.allowed, ", "))
	}
	f.value = text
	return nil
}

// Completions are the formats, for the shell.
func (f *format) Completions() []string { return f.allowed }

// asJSON is the value of --json, the older way to say --output json.
type asJSON struct{ of pflag.Value }

func (j asJSON) String() string {
	return strconv.FormatBool(j.of != nil && j.of.String() == JSONFormat)
}
func (j asJSON) Type() string     { return "bool" }
func (j asJSON) IsBoolFlag() bool { return true }

// Set takes true and false.
func (j asJSON) Set(text string) error {
	yes, err := strconv.ParseBool(text)
	switch {
	case err != nil:
		return errors.New("it is true or false")
	case yes:
		return j.of.Set(JSONFormat)
	case j.of.String() == JSONFormat:
		return j.of.Set(Text)
	}
	return nil
}

// AddOutput declares -o, --output for commands that [Print].
func AddOutput(set *pflag.FlagSet, more ...string) {
	f := NewFormat(more...)
	set.VarP(f, "output", "o", "print results as `"+strings.Join(append([]string{Text, JSONFormat, YAMLFormat}, more...), "|")+"`")
}

// AddJSON declares --json, where it was before --output.
func AddJSON(set *pflag.FlagSet) {
	set.AddFlag(&pflag.Flag{Name: "json", Usage: "print results as JSON, as --output json does", Value: JSONOf(set.Lookup("output").Value), DefValue: "false", NoOptDefVal: "true"})
}

// JSONOf is a flag that sets the one of [NewFormat] to json.
func JSONOf(of pflag.Value) pflag.Value { return asJSON{of} }

// Command is what [Print] needs of a command.
type Command interface {
	Flags() *pflag.FlagSet
	OutOrStdout() io.Writer
}

// Format is the format that results of a command are wanted in.
func Format(cmd Command) string {
	if f := cmd.Flags().Lookup("output"); f != nil && f.Value.Type() == "format" {
		return f.Value.String()
	}
	return Text
}

// Print writes the result of a command: v as JSON or YAML, or what text writes.
func Print(cmd Command, v any, text func(io.Writer) error) error {
	return Write(cmd.OutOrStdout(), Format(cmd), v, text)
}

// Write writes a result in a format: v as JSON or YAML, else what text writes.
func Write(w io.Writer, as string, v any, text func(io.Writer) error) error {
	b := bufio.NewWriter(w)
	var err error
	switch as {
	case JSONFormat:
		err = JSON(b, v)
	case YAMLFormat:
		err = YAML(b, v)
	default:
		err = text(b)
	}
	return errors.Join(err, b.Flush())
}

// Rows is a table as text for [Print].
func Rows(rows [][]string) func(io.Writer) error {
	return func(w io.Writer) error { return Table(w, rows) }
}
