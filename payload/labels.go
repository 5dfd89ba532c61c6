package payload

// Labels and annotations of release and component images.
const (
	// LabelRelease is a release image's version.
	LabelRelease = "io.openshift.release"
	// LabelBaseDigest is the digest of the image that a release image is made
	// from, of its platform's manifest.
	LabelBaseDigest = "io.openshift.release.base-image-digest"
	// LabelOperator, not empty, marks an image that brings manifests.
	LabelOperator = "io.openshift.release.operator"

	annotationVersions     = "io.openshift.build.versions"
	annotationDisplayNames = "io.openshift.build.version-display-names"
	annotationCommit       = "io.openshift.build.commit.id"
	annotationCommitRef    = "io.openshift.build.commit.ref"
	annotationSource       = "io.openshift.build.source-location"
	annotationOverride     = "io.openshift.release.override"
	annotationFromRelease  = "release.openshift.io/from-release"

	labelImageVersion = "org.opencontainers.image.version"

	releaseFolder   = "release-manifests"
	manifestsFolder = "manifests"
	referencesFile  = "image-references"
	metadataFile    = "release-metadata"

	// BaseTag is the component that a release image is made from.
	BaseTag = "cluster-version-operator"
)
