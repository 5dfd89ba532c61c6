// Package publish moves what a build made to where people fetch it: objects
// into a [Store], images into a [Registry], in an order in which no reader
// ever sees a pointer to something that is not there.
package publish
