package ostree

import "github.com/okd-project/okd-streams/internal/unix"

// Mode is how a repository stores content objects. The same tree gives the same
// checksums in each of them, [ModeBareUserOnly] excepted.
type Mode string

// The modes.
const (
	// ModeArchive stores each file compressed; owner, mode and attributes are
	// in its header. It is the mode for serving over HTTP.
	ModeArchive Mode = "archive"
	// ModeBareUser stores plain files; owner, mode and attributes are in the
	// attribute user.ostreemeta. Checkouts may be hard links in user mode.
	ModeBareUser Mode = "bare-user"
	// ModeBare stores files and symbolic links as they are, with owner, mode
	// and attributes of their own, so that only root can write to it. Checkouts
	// may be hard links. Attributes without a value can't be kept and are
	// refused.
	ModeBare Mode = "bare"
	// ModeBareUserOnly stores files and symbolic links as they are but keeps no
	// owners and attributes: all that is committed to it is as
	// [CommitOptions].CanonicalPermissions makes it. Checkouts are always in
	// user mode and may be hard links.
	ModeBareUserOnly Mode = "bare-user-only"
	// ModeBareSplitXattrs is ModeBare with the attributes in files of their own.
	// It is read, not written: libostree uses it in container images only.
	ModeBareSplitXattrs Mode = "bare-split-xattrs"
)

// stored is the mode as a repository's config has it; "": there is no such mode.
func (m Mode) stored() string {
	switch m {
	case ModeArchive:
		return "archive-z2" // the older name, which every reader knows
	case ModeBareUser, ModeBare, ModeBareUserOnly, ModeBareSplitXattrs:
		return string(m)
	}
	return ""
}

// parseMode reads the mode in a config.
func parseMode(text string) (Mode, bool) {
	if text == "archive-z2" {
		return ModeArchive, true
	}
	m := Mode(text)
	return m, m.stored() != ""
}

// hasLinks reports whether the objects of symbolic links are symbolic links.
func (m Mode) hasLinks() bool {
	return m == ModeBare || m == ModeBareUserOnly || m == ModeBareSplitXattrs
}

// fits reports whether a file of that type can be an object of kind.
func (m Mode) fits(kind ObjectType, mode uint32) bool {
	return mode&ModeType == unix.S_IFREG || mode&ModeType == unix.S_IFLNK && kind == TypeFile && m.hasLinks()
}

// maxOnlyMode are the permission bits that libostree lets an object of a
// bare-user-only repository have.
const maxOnlyMode = 0o775
