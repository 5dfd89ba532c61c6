// Package rpmdb reads the package database that RPM keeps in SQLite
// (rpmdb.sqlite, RPM 4.16 and later, the default since Fedora 33 and RHEL 9)
// without RPM or SQLite: which packages are installed, the files they own, and
// when they changed. It only reads, holds one package at a time, and takes the
// database for hostile.
//
// Formats: https://www.sqlite.org/fileformat2.html,
// https://rpm-software-management.github.io/rpm/manual/format_header.html.
package rpmdb
