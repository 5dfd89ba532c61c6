// Package dpkg reads the package database of Debian's dpkg without dpkg: which
// packages are installed, the files they own, and when they changed. It only
// reads, holds one package at a time, and takes the database for hostile.
//
// Formats: deb-control(5), deb-changelog(5), the comments of dpkg's
// lib/dpkg/dbdir and diversions code as observed on Debian 12.
package dpkg
