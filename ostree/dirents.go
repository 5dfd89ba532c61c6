package ostree

import (
	"bytes"
	"encoding/binary"
)

// eachDirent gives fn what a call of getdents64 put into buf: names without "."
// and "..", valid during the call. Types are DT_REG and the like.
func eachDirent(buf []byte, fn func(ino uint64, dtype byte, name []byte) error) error {
	// struct linux_dirent64: inode and offset of 8 bytes each, the record's
	// length, the file's type, the name and NUL.
	for len(buf) > 19 {
		length := min(max(int(binary.NativeEndian.Uint16(buf[16:])), 19), len(buf))
		record := buf[:length]
		buf = buf[length:]
		name, _, _ := bytes.Cut(record[19:], []byte{0})
		if len(name) <= 2 && (string(name) == "." || string(name) == "..") {
			continue
		}
		if err := fn(binary.NativeEndian.Uint64(record), record[18], name); err != nil {
			return err
		}
	}
	return nil
}
