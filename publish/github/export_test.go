package github

// NextLink is for its fuzz target.
var NextLink = nextLink
