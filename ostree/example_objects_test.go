package ostree_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/okd-project/okd-streams/ostree"
)

func ExampleParseChecksum() {
	c, err := ostree.ParseChecksum("6e6b629a1351feafb019b83f967f2533297c2a52a4febb2b63445f26c7014585")
	fmt.Println(c, err)
	_, err = ostree.ParseChecksum("6e6b629a")
	fmt.Println(err)
	// Output:
	// 6e6b629a1351feafb019b83f967f2533297c2a52a4febb2b63445f26c7014585 <nil>
	// ostree: checksum "6e6b629a" has 8 characters, want 64
}

func ExampleCheckRef() {
	for _, name := range []string{"os/x86_64/base", "origin:os/x86_64/base", "os/../base", "os//base", "-os"} {
		fmt.Println(name, ostree.CheckRef(name) == nil)
	}
	// Output:
	// os/x86_64/base true
	// origin:os/x86_64/base true
	// os/../base false
	// os//base false
	// -os false
}

// A value keeps its type, and is read back as that type only.
func ExampleVariant() {
	for _, v := range []ostree.Variant{
		ostree.BoolVariant(true),
		ostree.BytesVariant([]byte{1, 2, 3}),
		ostree.StringVariant("1.0"),
		ostree.StringsVariant([]string{"a", "b"}),
		ostree.Uint32Variant(7),
		ostree.Uint64Variant(1 << 40),
	} {
		fmt.Printf("%s %q\n", v.Type, v.Data)
	}
	list, err := ostree.StringsVariant([]string{"a", "b"}).AsStrings()
	fmt.Println(list, err)
	_, err = ostree.Uint32Variant(7).AsUint64()
	fmt.Println(err != nil)
	// Output:
	// b "\x01"
	// ay "\x01\x02\x03"
	// s "1.0\x00"
	// as "a\x00b\x00\x02\x04"
	// u "\a\x00\x00\x00"
	// t "\x00\x00\x00\x00\x00\x01\x00\x00"
	// [a b] <nil>
	// true
}

// Detached metadata can be added to a commit without a change of its checksum:
// here it goes through its serialized form.
func ExampleMarshalMetadata() {
	data, err := ostree.MarshalMetadata([]ostree.MetadataItem{
		{Key: "example.tested", Value: ostree.BoolVariant(true)},
		{Key: "example.size", Value: ostree.Uint64Variant(4096)},
	})
	if err != nil {
		log.Fatal(err)
	}
	items, err := ostree.DecodeMetadata(data)
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range items {
		fmt.Println(item.Key, item.Value.Type)
	}
	_, err = ostree.DecodeMetadata(data[:len(data)-1])
	fmt.Println(errors.Is(err, ostree.ErrCorrupt))
	// Output:
	// example.tested b
	// example.size t
	// true
}

// A commit gets metadata that is not part of it.
func ExampleRepo_ReadMetadata() {
	ctx := context.Background()
	r, _, done := exampleRepo()
	defer done()
	c, err := r.Commit(ctx, exampleTree(), &ostree.CommitOptions{
		Timestamp: time.Unix(1_700_000_000, 0),
		Detached:  []ostree.MetadataItem{{Key: "example.tested", Value: ostree.BoolVariant(true)}},
	})
	if err != nil {
		log.Fatal(err)
	}
	items, err := r.ReadMetadata(ctx, c)
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range items {
		value, err := item.Value.AsBool()
		fmt.Println(item.Key, value, err)
	}
	// Output: example.tested true <nil>
}

// From a commit to the names in its root directory, object by object.
func ExampleRepo_ReadDirTree() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	commit, err := r.ReadCommit(ctx, c)
	if err != nil {
		log.Fatal(err)
	}
	meta, err := r.ReadDirMeta(ctx, commit.RootMeta)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%06o %d:%d\n", meta.Mode, meta.UID, meta.GID)
	root, err := r.ReadDirTree(ctx, commit.RootTree)
	if err != nil {
		log.Fatal(err)
	}
	usr, err := r.ReadDirTree(ctx, root.Dirs[0].Tree)
	if err != nil {
		log.Fatal(err)
	}
	for _, dir := range usr.Dirs {
		known, err := r.Has(ctx, ostree.TypeDirMeta, dir.Meta)
		fmt.Println(dir.Name, known, err)
	}
	// Output:
	// 040555 0:0
	// bin true <nil>
	// lib true <nil>
	// share true <nil>
}

// The exact bytes of objects, as a server or a signature needs them, and what
// they say.
func ExampleRepo_Object() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	data, err := r.Object(ctx, ostree.TypeCommit, c)
	if err != nil {
		log.Fatal(err)
	}
	commit, err := ostree.DecodeCommit(data)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data), commit.Subject)

	if data, err = r.Object(ctx, ostree.TypeDirTree, commit.RootTree); err != nil {
		log.Fatal(err)
	}
	tree, err := ostree.DecodeDirTree(data)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data), len(tree.Files), tree.Dirs[0].Name)

	if data, err = r.Object(ctx, ostree.TypeDirMeta, commit.RootMeta); err != nil {
		log.Fatal(err)
	}
	meta, err := ostree.DecodeDirMeta(data)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d %06o\n", len(data), meta.Mode)
	// Output:
	// 86 first
	// 72 0 usr
	// 12 040555
}

// A changed value counts for whoever opens the repository next.
func ExampleRepo_SetConfig() {
	ctx := context.Background()
	r, _, done := exampleRepo()
	defer done()
	if err := r.SetConfig(ctx, "core", "fsync", "false"); err != nil {
		log.Fatal(err)
	}
	again, err := ostree.Open(ctx, r.Path(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer again.Close()
	fmt.Println(again.Config("core", "fsync"))
	// Output: false true
}
