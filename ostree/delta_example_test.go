package ostree_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/okd-project/okd-streams/ostree"
)

func ExampleRepo_ApplyDelta() {
	ctx := context.Background()
	r, _, done := exampleRepo()
	defer done()
	for _, file := range []string{"testdata/first.delta", "testdata/second.delta"} {
		c, err := r.ApplyDelta(ctx, file, nil)
		if err != nil {
			log.Fatal(err)
		}
		commit, err := r.ReadCommit(ctx, c)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c, commit.Subject)
	}
	// Output:
	// 4fa391634ce4440d71a9ac6da9e7bb3dfa397c3e1e625c957a5687b2ffd72786 one
	// 2b9ac5683e3a99cea015e873ea1735eb7958c7112f4b7a00cdca94b91009548d two
}

// exampleDelta puts a static delta where `ostree static-delta generate` does.
func exampleDelta(r *ostree.Repo) {
	data, err := os.ReadFile("testdata/second.delta")
	if err != nil {
		log.Fatal(err)
	}
	folder := filepath.Join(r.Path(), "deltas", "T6", "ORY0zkRA1xqaxtqee7Pfo5fD4eYlyVelaHsv_XJ4Y-K5rFaD46mc6gFehz6hc163lYxxEvS3oAzcqUuRAJVI0")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "superblock"), data, 0o644); err != nil {
		log.Fatal(err)
	}
}

func ExampleRepo_Deltas() {
	r, _, done := exampleRepo()
	defer done()
	exampleDelta(r)
	for name, err := range r.Deltas(context.Background()) {
		fmt.Println(name, err)
	}
	// Output: 4fa391634ce4440d71a9ac6da9e7bb3dfa397c3e1e625c957a5687b2ffd72786-2b9ac5683e3a99cea015e873ea1735eb7958c7112f4b7a00cdca94b91009548d <nil>
}

func ExampleRepo_ReadDelta() {
	r, _, done := exampleRepo()
	defer done()
	exampleDelta(r)
	name, err := ostree.ParseDeltaName("4fa391634ce4440d71a9ac6da9e7bb3dfa397c3e1e625c957a5687b2ffd72786-2b9ac5683e3a99cea015e873ea1735eb7958c7112f4b7a00cdca94b91009548d")
	if err != nil {
		log.Fatal(err)
	}
	d, err := r.ReadDelta(context.Background(), name)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range d.Parts {
		fmt.Println(p.Objects, "objects in", p.Size, "bytes,", p.Operations)
	}
	// Output: 4 objects in 497 bytes, map[bspatch:1 close:1 open:1 open-splice-and-close:3 set-read-source:1 unset-read-source:1]
}

func ExampleParseDeltaName() {
	name, err := ostree.ParseDeltaName("4fa391634ce4440d71a9ac6da9e7bb3dfa397c3e1e625c957a5687b2ffd72786")
	fmt.Println("from scratch:", name.From.IsZero(), err)
	// Output: from scratch: true <nil>
}
