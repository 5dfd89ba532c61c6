package graph

// Limits of what is read. Larger inputs are refused before they are kept.
const (
	// MaxGraphSize bounds a graph's JSON, bytes. The largest public graphs have
	// a few MB.
	MaxGraphSize = 64 << 20
	// MaxNodes and MaxEdges bound a graph.
	MaxNodes = 50_000
	MaxEdges = 4_000_000
	// MaxDataFile bounds a file of graph-data, bytes, and MaxDataFiles the files
	// of one of its folders.
	MaxDataFile  = 4 << 20
	MaxDataFiles = 50_000
	// MaxPattern bounds the pattern of one block, in characters where what is
	// repeated counts as often as it may be there; MaxPatterns bounds those of all
	// blocks of one node together. Both may be as many as two for each byte of a
	// longer one, so that it can name many versions.
	MaxPattern  = 2000
	MaxPatterns = 100_000
	// MaxVersionLength bounds the text of a version, bytes.
	MaxVersionLength = 255
)
