// Package selinux tells the label that an SELinux policy gives a path, as
// libselinux's selabel_lookup does, without libselinux. It reads the policy's
// folder from any [io/fs.FS] and takes it for hostile.
//
// Formats: selinux_config(5), file_contexts(5), file_contexts.subs_dist(5). Rules
// as of libselinux 3.4, which later releases keep:
//
//   - Files are file_contexts, then those with .homedirs and .local. A line is a
//     pattern, perhaps a file type (-- -d -l -b -c -p -s), and a label, or <<none>>.
//   - Of the lines that match a path and its type the last counts, but any
//     without special characters goes before all that have some.
//   - A pattern is a Perl regular expression of bytes that has to match all of the
//     path; a dot is any byte, and the path may have one newline more at its end.
//   - .subs and then .subs_dist replace the beginning of the path first; in each
//     the last line that fits counts. A trailing slash and doubled ones don't count.
//
// Patterns become one automaton over all lines, whose states are made when a path
// first needs them: a look-up costs a step for each byte of the path, however many
// lines there are. What policies don't use and Go's regexp can't do (look-around,
// back references, anchors inside a pattern) is an error that wraps
// [errors.ErrUnsupported] and names file and line. Compiled files (.bin) hold what
// their sources do and are not read.
package selinux
