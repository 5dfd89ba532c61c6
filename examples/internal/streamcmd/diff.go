package streamcmd

import (
	"encoding"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/okd-project/okd-streams/examples/internal/ui"
	"github.com/okd-project/okd-streams/stream"
)

// change is a value that two definitions do not have alike; an empty side has
// it not at all.
type change struct {
	Path string `json:"path"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

func diffCommand() *cobra.Command {
	return leaf("diff STREAM STREAM", "Compare two streams", "\n\nA STREAM is a built-in one, or a file. Layout, comments and order of keys are not compared.", 2, func(cmd *cobra.Command, args []string) error {
		var defs [2]*stream.Definition
		for i, arg := range args {
			var err error
			if defs[i], err = decode(arg); err != nil {
				return err
			}
		}
		changes := differences(defs[0], defs[1])
		return ui.Print(cmd, changes, func(w io.Writer) error { return printChanges(w, changes) })
	})
}

func printChanges(w io.Writer, changes []change) error {
	for _, c := range changes {
		var err error
		switch {
		case c.From == "":
			_, err = fmt.Fprintf(w, "+ %s: %s\n", c.Path, c.To)
		case c.To == "":
			_, err = fmt.Fprintf(w, "- %s: %s\n", c.Path, c.From)
		default:
			_, err = fmt.Fprintf(w, "  %s: %s -> %s\n", c.Path, c.From, c.To)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// differences compares definitions value by value, sorted by path.
func differences(a, b *stream.Definition) []change {
	from, to := map[string]string{}, map[string]string{}
	flatten(from, "", reflect.ValueOf(a))
	flatten(to, "", reflect.ValueOf(b))
	changes := []change{}
	for path, value := range from {
		if to[path] != value {
			changes = append(changes, change{path, value, to[path]})
		}
	}
	for path, value := range to {
		if _, ok := from[path]; !ok {
			changes = append(changes, change{Path: path, To: value})
		}
	}
	slices.SortFunc(changes, func(x, y change) int { return strings.Compare(x.Path, y.Path) })
	return changes
}

// flatten gives every value that is said with its path as [stream.Edit] knows
// it, but items that have a name have it in place of their number, so that one
// more does not make all that follow another one.
func flatten(to map[string]string, path string, v reflect.Value) {
	if !v.IsValid() || v.IsZero() {
		return
	}
	if d, ok := v.Interface().(time.Duration); ok {
		to[path] = d.String()
		return
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if text, err := m.MarshalText(); err == nil {
			to[path] = string(text)
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.Elem().IsZero() { // said, though it is nothing: extensionsRequired: false
			to[path] = fmt.Sprint(v.Elem().Interface())
			return
		}
		flatten(to, path, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if path != "" {
				key = path + "." + key
			}
			flatten(to, key, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			flatten(to, path+"["+itemName(v.Index(i), i)+"]", v.Index(i))
		}
	case reflect.Map:
		keys := map[string]reflect.Value{}
		for _, key := range v.MapKeys() {
			keys[key.String()] = v.MapIndex(key)
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			flatten(to, path+"["+strconv.Quote(key)+"]", keys[key])
		}
	default:
		to[path] = fmt.Sprint(v.Interface())
	}
}

// itemName is what an item of a list is called by.
func itemName(v reflect.Value, i int) string {
	if v.Kind() == reflect.Struct {
		var parts []string
		for _, field := range []string{"Name", "ID", "From", "Image", "Platform", "Format", "Kind"} {
			f := v.FieldByName(field)
			if !f.IsValid() || f.IsZero() {
				continue
			}
			if parts = append(parts, fmt.Sprint(f.Interface())); field != "Platform" {
				break
			}
		}
		if len(parts) > 0 {
			return strings.Join(parts, " ")
		}
	}
	return strconv.Itoa(i)
}
