package payload

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// mirrorConfig is where oc puts signatures beside the folder v2.
const mirrorConfig = "config"

const maxSignatureFiles = 4096

// MirrorSignatures gives the signatures beside the images of a mirror, in a
// folder or an [Archive]: the files config/signature-*.json, each with a
// ConfigMap as [EncodeSignatureConfigMap] makes it, which is where
// `oc adm release mirror --to-dir` puts them. Without any there are none, and
// no error. More than 4096 files and one of more than [MaxManifestSize] bytes
// are errors.
func MirrorSignatures(fsys fs.FS) (SignatureStore, error) {
	s, err := mirrorSignatures(folderImages{fsys})
	if err != nil {
		return nil, &Error{Op: "open", Target: "signatures of the mirror", Err: err}
	}
	return s, nil
}

func mirrorSignatures(files folderImages) (SignatureStore, error) {
	list, err := fs.ReadDir(files.fsys, mirrorConfig)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var maps [][]byte
	size := 0
	for _, e := range list {
		if ok, _ := path.Match("signature-*.json", e.Name()); !ok { // the pattern is good
			continue
		}
		if len(maps) == maxSignatureFiles {
			return nil, fmt.Errorf("more than %d files in %s", maxSignatureFiles, mirrorConfig)
		}
		data, err := files.read(path.Join(mirrorConfig, e.Name()), MaxManifestSize)
		if err != nil {
			return nil, err
		}
		if size += len(data); size > MaxPayloadSize {
			return nil, fmt.Errorf("files of more than %d bytes in %s", MaxPayloadSize, mirrorConfig)
		}
		maps = append(maps, data)
	}
	return ConfigMapSignatures(maps...)
}
