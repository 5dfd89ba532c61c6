package ostree_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"github.com/okd-project/okd-streams/ostree"
)

// labelledTree is a small system with an SELinux policy.
var labelledTree = fstest.MapFS{
	"usr/bin/hello":          {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o755},
	"usr/etc/selinux/config": {Data: []byte("SELINUX=enforcing\nSELINUXTYPE=targeted\n"), Mode: 0o644},
	"usr/etc/selinux/targeted/contexts/files/file_contexts": {
		Data: []byte("/usr(/.*)?\t\tsystem_u:object_r:usr_t:s0\n/usr/bin/.*\t--\tsystem_u:object_r:bin_t:s0\n"), Mode: 0o644,
	},
}

func ExampleReadPolicy() {
	policy, err := ostree.ReadPolicy(labelledTree) // of a directory: root.FS(); of a commit: repo.FS(ctx, commit)
	if err != nil {
		log.Fatal(err)
	}
	r, _, done := exampleRepo()
	defer done()
	ctx := context.Background()
	c, err := r.Commit(ctx, ostree.FS(labelledTree), &ostree.CommitOptions{SELinux: policy})
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range r.Tree(c).Entries(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if e.Path == "usr/bin/hello" {
			fmt.Printf("%s %q\n", e.Xattrs[0].Name, e.Xattrs[0].Value)
		}
	}
	// Output:
	// security.selinux "system_u:object_r:bin_t:s0\x00"
}

func ExampleTreePolicy() {
	local := ostree.FS(fstest.MapFS{
		"usr/etc/selinux/targeted/contexts/files/file_contexts.local": {Data: []byte("/usr/bin/hello\t--\tsystem_u:object_r:hello_exec_t:s0\n"), Mode: 0o644},
	})
	policy, err := ostree.TreePolicy(context.Background(), ostree.Overlay(ostree.FS(labelledTree), local))
	if err != nil {
		log.Fatal(err)
	}
	label, err := policy.Label("usr/bin/hello", ostree.ModeRegular)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(label)
	// Output:
	// system_u:object_r:hello_exec_t:s0
}

func ExamplePolicy_Label() {
	policy, err := ostree.ReadPolicy(labelledTree)
	if err != nil {
		log.Fatal(err)
	}
	for _, path := range []string{"usr/bin/hello", "usr", "var"} {
		label, err := policy.Label(path, ostree.ModeRegular)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %q\n", path, label)
	}
	// Output:
	// usr/bin/hello: "system_u:object_r:bin_t:s0"
	// usr: "system_u:object_r:usr_t:s0"
	// var: ""
}

func ExamplePolicy_Name() {
	policy, err := ostree.ReadPolicy(labelledTree)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(policy.Name())
	// Output:
	// targeted
}
