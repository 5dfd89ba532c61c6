// Package stream says what a stream is: its definition, with a strict parser,
// the built-in definitions, and the versions and names of releases. It is pure
// data: nothing here touches the world.
package stream
