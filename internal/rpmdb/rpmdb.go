package rpmdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"time"
)

// Package is one installed package. The package dpkg has a type of the same
// name and fields, so that one converts to the other.
type Package struct {
	// Name, Epoch (decimal, "" for none), Version and Release name it, with
	// Arch ("" for the pseudo-packages gpg-pubkey).
	Name, Epoch, Version, Release, Arch string
	// Source is the file name of the source package.
	Source string
	// Size is the sum of the sizes of its files in bytes.
	Size int64
	// Built is when it was built; zero: not known.
	Built time.Time
	// Changes are the times of its change log entries, the newest first.
	Changes []time.Time
	// Files are the paths it owns: files, links and directories, relative to
	// the root ("usr/bin/bash"), in the order of the package.
	Files []string
}

// EVR is version as RPM writes it: "2:1.0-3", without epoch "1.0-3".
func (p *Package) EVR() string {
	evr := p.Version
	if p.Release != "" {
		evr += "-" + p.Release
	}
	if p.Epoch != "" {
		evr = p.Epoch + ":" + evr
	}
	return evr
}

// MaxSize is how large a database may be that has to be read into memory, for
// the file system has no [io.ReaderAt]: 128 MiB. One package takes about 20 KiB.
const MaxSize = 128 << 20

// Dirs are the directories in which a tree may have the database, in the order
// in which they are looked at: rpm-ostree's, today's, the traditional one.
var Dirs = [...]string{"usr/share/rpm", "usr/lib/sysimage/rpm", "var/lib/rpm"}

// Packages are the packages of the database in fsys, the root of a system, in
// the order of installation. Its write-ahead log counts. No database is an
// error that wraps [fs.ErrNotExist]; one in the older formats (Berkeley DB,
// NDB) one that wraps [errors.ErrUnsupported]. Errors name the file.
func Packages(fsys fs.FS) iter.Seq2[Package, error] {
	return func(yield func(Package, error) bool) {
		name, err := find(fsys)
		if err != nil {
			yield(Package{}, err)
			return
		}
		file, size, err := open(fsys, name)
		if err != nil {
			yield(Package{}, fmt.Errorf("rpmdb: %w", err))
			return
		}
		defer file.Close()
		var wal io.ReaderAt
		log, logSize, err := open(fsys, name+"-wal")
		switch {
		case err == nil:
			defer log.Close()
			wal = log
		case !errors.Is(err, fs.ErrNotExist):
			yield(Package{}, fmt.Errorf("rpmdb: %w", err))
			return
		}
		for p, err := range Read(file, size, wal, logSize) {
			if err != nil {
				err = fmt.Errorf("rpmdb: %s: %w", name, err)
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// find gives the path of the database in fsys.
func find(fsys fs.FS) (string, error) {
	for _, dir := range Dirs {
		for _, name := range []string{"rpmdb.sqlite", "Packages.db", "Packages"} {
			file := path.Join(dir, name)
			info, err := fs.Stat(fsys, file)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue
			case err != nil:
				return "", fmt.Errorf("rpmdb: %w", err)
			case !info.Mode().IsRegular():
				return "", fmt.Errorf("rpmdb: %s: not a regular file: %w", file, fs.ErrInvalid)
			case name != "rpmdb.sqlite":
				return "", fmt.Errorf("rpmdb: %s: only the SQLite format can be read; convert it with rpmdb --rebuilddb: %w", file, errors.ErrUnsupported)
			}
			return file, nil
		}
	}
	return "", fmt.Errorf("rpmdb: no rpmdb.sqlite in %v: %w", Dirs, fs.ErrNotExist)
}

type readerAtCloser interface {
	io.ReaderAt
	io.Closer
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// open opens a file for reading at any place.
func open(fsys fs.FS, name string) (readerAtCloser, int64, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	if r, ok := f.(readerAtCloser); ok {
		return r, info.Size(), nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, 0, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	if len(data) > MaxSize {
		return nil, 0, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("more than %d bytes: %w", MaxSize, errors.ErrUnsupported)}
	}
	return memory{bytes.NewReader(data)}, int64(len(data)), nil
}

// Read gives the packages of the database file of size bytes, with its
// write-ahead log if wal is not nil and walSize not 0, in the order of
// installation. The sequence ends after an error.
func Read(file io.ReaderAt, size int64, wal io.ReaderAt, walSize int64) iter.Seq2[Package, error] {
	return func(yield func(Package, error) bool) {
		if wal == nil {
			walSize = 0
		}
		db, err := openDatabase(file, size, wal, walSize)
		if err != nil {
			yield(Package{}, err)
			return
		}
		root, err := db.table("Packages")
		if err != nil {
			yield(Package{}, err)
			return
		}
		for r, err := range db.rows(root) {
			var p Package
			if err == nil {
				if len(r.columns) < 2 || r.columns[1].kind != 'b' {
					err = damaged("row %d has no header", r.id)
				} else if p, err = ParseHeader(r.columns[1].b); err != nil {
					err = fmt.Errorf("row %d: %w", r.id, err)
				}
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}
