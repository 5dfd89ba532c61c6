package signaturepolicy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/signaturepolicy"
)

const examplePolicy = `{
  "default": [{"type": "reject"}],
  "transports": {"docker": {
    "registry.example.com": [{"type": "insecureAcceptAnything"}],
    "registry.example.com/okd": [{"type": "sigstoreSigned", "keyPath": "/etc/pki/okd.pub"}]
  }}
}`

func ExamplePolicy_Verify() {
	policy, err := signaturepolicy.Decode(strings.NewReader(examplePolicy))
	if err != nil {
		fmt.Println(err)
		return
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}
	for _, image := range []string{"registry.example.com/tools/cli:1", "quay.io/tools/cli:1"} {
		ref, err := name.ParseReference(image)
		if err != nil {
			fmt.Println(err)
			return
		}
		err = policy.Verify(context.Background(), &signaturepolicy.Image{Reference: ref, Digest: digest}, nil)
		fmt.Println(image, err == nil, errors.Is(err, publish.ErrSignature))
	}
	// Output:
	// registry.example.com/tools/cli:1 true false
	// quay.io/tools/cli:1 false true
}

func ExampleDecode() {
	policy, err := signaturepolicy.Decode(strings.NewReader(`{"default": [{"type": "insecureAcceptAnything"}]}`))
	fmt.Println(policy.Insecure(), err)
	_, err = signaturepolicy.Decode(strings.NewReader(`{"default": [{"type": "accept"}]}`))
	fmt.Println(err)
	// Output:
	// true <nil>
	// signaturepolicy: default: requirement 1: type "accept" is not known
}

func ExampleReadLookaside() {
	lookaside, err := signaturepolicy.ReadLookaside(fstest.MapFS{
		"okd.yaml": {Data: []byte("docker: {quay.io/okd: {lookaside: 'https://signatures.example.com'}}\n")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	signatures := lookaside.Signatures(func(_ context.Context, url, path string) (io.ReadCloser, error) {
		fmt.Println(url, path)
		return nil, fs.ErrNotExist
	})
	ref := name.MustParseReference("quay.io/okd/scos:4.20")
	for _, err := range signatures(context.Background(), ref, v1.Hash{Algorithm: "sha256", Hex: "12ab"}) {
		fmt.Println(err)
	}
	// Output: https://signatures.example.com okd/scos@sha256=12ab/signature-1
}
