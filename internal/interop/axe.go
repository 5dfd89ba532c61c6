package interop

import (
	"context"
	"os"
	"path/filepath"
)

// AxeVersion is that of the npm package axe-core, which judges whether people
// can use a page who do not see it, or see it badly.
const AxeVersion = "4.14.1"

// axeSum is the SHA-256 of its axe.min.js.
const axeSum = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"

// FetchAxe gives the path of axe.min.js, fetched from npm's registry the first
// time. It runs in a browser without network alone.
func FetchAxe(ctx context.Context) (string, error) {
	const file = "axe.min.js"
	dir, err := cached(ctx, "axe-core-"+AxeVersion, func(ctx context.Context, dir string) error {
		packed := filepath.Join(dir, "axe.tgz")
		if err := download(ctx, "https://registry.npmjs.org/axe-core/-/axe-core-"+AxeVersion+".tgz", packed); err != nil {
			return err
		}
		if err := extractFile(packed, "package/"+file, filepath.Join(dir, file), axeSum); err != nil {
			return err
		}
		return os.Remove(packed)
	})
	return filepath.Join(dir, file), err
}
