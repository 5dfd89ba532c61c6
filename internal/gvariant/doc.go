// Package gvariant reads and writes the GVariant serialization, little-endian,
// in normal form only.
//
// Source of the format: the GVariant specification (Lortie, "GVariant
// Serialization", GLib project). The rules that OSTree's types need are these.
//
//   - A value has an alignment (1, 2, 4 or 8) and either a fixed size or none.
//     A container's alignment is the largest of its members'.
//   - A tuple is its members in order, each padded with zero bytes to its
//     alignment, then the framing offsets: the end of each member without a
//     fixed size, the last member excepted, in reverse order. A tuple of fixed
//     members has a fixed size, padded to its alignment.
//   - An array of fixed-size elements is their concatenation; of others, the
//     padded elements and then the end of each, in order.
//   - A framing offset takes the fewest of 1, 2, 4 or 8 bytes that can hold the
//     size of the whole container.
//   - A variant is its child, a zero byte and the child's type string.
//
// GLib reads a broken child as its type's default value. This package returns
// an error that wraps [ErrNotNormal] instead: padding that is not zero, an
// offset that is wider than needed, out of order or out of range, a string
// without its NUL or with invalid UTF-8, a boolean other than 0 and 1.
//
// Values are views into the bytes that they were read from; nothing is copied
// and nothing is allocated in proportion to a length that the data claims.
package gvariant
