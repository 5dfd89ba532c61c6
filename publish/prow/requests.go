package prow

// The requests of image.openshift.io/v1 that move images into image streams,
// and their answers: the members that matter here.

// groupVersion is the API's group and version, as objects name it.
const groupVersion = "image.openshift.io/v1"

// ImageStreamImport asks for images to be imported, and says how that went.
type ImageStreamImport struct {
	Kind       string                  `json:"kind,omitempty"`
	APIVersion string                  `json:"apiVersion,omitempty"`
	Metadata   ObjectMeta              `json:"metadata"`
	Spec       ImageStreamImportSpec   `json:"spec"`
	Status     ImageStreamImportStatus `json:"status"`
}

// ImageStreamImportSpec is what is asked for.
type ImageStreamImportSpec struct {
	// Import changes the image stream; without it the server says only what it
	// would import.
	Import bool          `json:"import"`
	Images []ImportImage `json:"images,omitempty"`
}

// ImportImage is an image and the tag that is to follow it.
type ImportImage struct {
	From            ObjectReference `json:"from"` // a DockerImage
	To              *TagName        `json:"to,omitempty"`
	ImportPolicy    ImportPolicy    `json:"importPolicy,omitzero"`
	ReferencePolicy ReferencePolicy `json:"referencePolicy,omitzero"`
	// IncludeManifest asks for the manifest in the answer.
	IncludeManifest bool `json:"includeManifest,omitempty"`
}

// TagName names a tag of the image stream.
type TagName struct {
	Name string `json:"name"`
}

// ImageStreamImportStatus is the answer.
type ImageStreamImportStatus struct {
	Import *ImageStream     `json:"import,omitempty"` // as it is now
	Images []ImportedStatus `json:"images,omitempty"` // in the order of the request
}

// ImportedStatus is how the import of one image went.
type ImportedStatus struct {
	Status    Status  `json:"status"`
	Image     *Image  `json:"image,omitempty"`
	Tag       string  `json:"tag,omitempty"`
	Manifests []Image `json:"manifests,omitempty"` // of an index that is kept whole
}

// Status is what the API server says of a request.
type Status struct {
	Status  string `json:"status,omitempty"` // Success or Failure
	Message string `json:"message,omitempty"`
	Reason  string `json:"reason,omitempty"` // a word, such as NotFound
	Code    int    `json:"code,omitempty"`   // of HTTP
}

// Image is an image that a cluster knows; its name is its digest.
type Image struct {
	Metadata             ObjectMeta `json:"metadata"`
	DockerImageReference string     `json:"dockerImageReference,omitempty"` // a pullspec by digest
	MediaType            string     `json:"dockerImageManifestMediaType,omitempty"`
}

// ImageStreamTag is a tag of an image stream by itself, named STREAM:TAG: what it
// follows, and the image that it has.
type ImageStreamTag struct {
	Kind       string         `json:"kind,omitempty"`
	APIVersion string         `json:"apiVersion,omitempty"`
	Metadata   ObjectMeta     `json:"metadata"`
	Tag        *TagReference  `json:"tag"`
	Generation int64          `json:"generation"` // of the image
	Conditions []TagCondition `json:"conditions,omitempty"`
	Image      Image          `json:"image"`
}

// ImageStreamMapping puts an image that is in a registry already into a tag.
type ImageStreamMapping struct {
	Kind       string     `json:"kind,omitempty"`
	APIVersion string     `json:"apiVersion,omitempty"`
	Metadata   ObjectMeta `json:"metadata"` // of the image stream
	Image      Image      `json:"image"`
	Tag        string     `json:"tag"`
}
