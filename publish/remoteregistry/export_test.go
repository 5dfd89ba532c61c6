package remoteregistry

// Parsers of what servers say.
var (
	NextLink  = nextLink
	Uploaded  = uploaded
	Printable = printable
)
