// Package compress turns streams into gzip, zstd or xz files on several cores,
// and takes size and SHA-256 of both sides on the way.
//
// A stream is cut into blocks of a fixed size that are compressed
// independently of each other and written in order: how many workers there are
// never changes a byte. The encoders are those of this module at its pinned
// versions, so the same bytes come out on every machine.
//
//   - gzip (RFC 1952): one member without name and time, whose deflate stream
//     has a sync flush after each block.
//   - zstd (RFC 8878): a frame a block, with its content's size and checksum;
//     with [Encoding.Seekable] a table of the frames follows, in a skippable
//     frame as zstd's contrib/seekable_format describes it.
//   - xz (https://tukaani.org/xz/xz-file-format.txt): one stream with a block a
//     block, sizes in the blocks' headers, so that `xz -T` also reads on
//     several cores.
package compress
