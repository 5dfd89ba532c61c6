package payload

// Limits of what is read. Larger inputs are refused before they are kept.
const (
	// MaxImageManifestSize bounds an image or index manifest, bytes.
	MaxImageManifestSize = 4 << 20
	// MaxConfigSize bounds an image configuration, bytes.
	MaxConfigSize = 16 << 20
	// MaxLayerSize bounds a layer that is read, compressed as well as
	// uncompressed, bytes. Only manifests are kept of it.
	MaxLayerSize = 8 << 30
	// MaxReferencesSize bounds image-references and image streams, bytes.
	MaxReferencesSize = 4 << 20
	// MaxMetadataSize bounds release-metadata, bytes.
	MaxMetadataSize = 1 << 20
	// MaxYAMLSize bounds a YAML document that is parsed, bytes. A manifest
	// larger than this could not be stored in a cluster.
	MaxYAMLSize = 2 << 20
	// MaxYAMLNodes bounds what a YAML document can consist of, as the number of
	// its line ends, commas, colons, hyphens and opening brackets; the parser
	// needs hundreds of bytes for each.
	MaxYAMLNodes = 256 << 10
	// MaxDocuments bounds the YAML documents in a file.
	MaxDocuments = 4096
	// MaxManifestSize bounds a file with manifests, bytes.
	MaxManifestSize = 8 << 20
	// MaxManifests bounds the files that one component brings.
	MaxManifests = 4096
	// MaxPayloadSize bounds all files of a payload together, bytes.
	MaxPayloadSize = 64 << 20
	// MaxPayloadFiles bounds the files of a payload.
	MaxPayloadFiles = 16384
	// MaxTags bounds the images of a payload or image stream.
	MaxTags = 4096
	// MaxTagItems bounds the images in the history of a tag.
	MaxTagItems = 1024
	// MaxFindings bounds the faults that are listed; more are not looked for.
	MaxFindings = 1000
	// MaxNameLength bounds the name of a manifest or tag, bytes.
	MaxNameLength = 255
	// MaxLabelSize bounds a label with versions, bytes.
	MaxLabelSize = 64 << 10
	// MaxToolSize bounds a program that is extracted, bytes, and MaxToolsSize all
	// of one release together.
	MaxToolSize  = 4 << 30
	MaxToolsSize = 32 << 30
	// MaxSignatureSize bounds a signature and what it signs, bytes.
	MaxSignatureSize = 50 << 10
	// MaxSignatures bounds the signatures of one image.
	MaxSignatures = 9
	// MaxLogSize bounds the history of a repository that is read, bytes.
	MaxLogSize = 64 << 20
	// MaxCommits bounds the commits of a repository between two releases.
	MaxCommits = 100_000
	// MaxPackages bounds the packages of an image.
	MaxPackages = 100_000
	// MaxArchiveEntries bounds the entries of an archive that is read in place.
	MaxArchiveEntries = 16 << 10
)

const (
	defaultWorkers = 32
	maxArchivePath = 1024
	// maxArchiveDepth bounds the parts of a name in an archive: an entry of 512
	// bytes may need as many folders, and who walks them their names.
	maxArchiveDepth = 32
	maxWhiteouts    = 1 << 20
	maxSubject      = 1000 // of a change, bytes
	// zstdWindow bounds the memory of a zstd decoder; what the reference
	// encoder uses without --ultra or --long is at most 8 MiB.
	zstdWindow = 16 << 20
)
