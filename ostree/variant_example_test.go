package ostree_test

import (
	"context"
	"fmt"
	"log"

	"github.com/okd-project/okd-streams/ostree"
)

func ExampleParseVariant() {
	v, err := ostree.ParseVariant("{'version': <'9.0'>, 'build': <uint32 7>}")
	fmt.Println(v.Type, err)
	// Output: a{sv} <nil>
}

func ExampleVariant_Text() {
	text, err := ostree.StringsVariant([]string{"os", "os/next"}).Text(true)
	fmt.Println(text, err)
	// Output: ['os', 'os/next'] <nil>
}

// A commit object holds its time in big-endian order.
func ExampleVariant_Swapped() {
	v, err := ostree.Uint64Variant(1 << 56).Swapped()
	if err != nil {
		log.Fatal(err)
	}
	text, err := v.Text(true)
	fmt.Println(text, err)
	// Output: uint64 1 <nil>
}

func ExampleRepo_Commits() {
	r, c, done := exampleRepo()
	defer done()
	for commit, err := range r.Commits(context.Background()) {
		fmt.Println(commit == c, err)
	}
	// Output: true <nil>
}

func ExampleRepo_UnsetConfig() {
	ctx := context.Background()
	r, _, done := exampleRepo()
	defer done()
	if err := r.SetConfig(ctx, "core", "min-free-space-percent", "1"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.UnsetConfig(ctx, "core", "min-free-space-percent"))
	fmt.Println(r.UnsetConfig(ctx, "core", "min-free-space-percent"))
	// Output:
	// true <nil>
	// false <nil>
}
