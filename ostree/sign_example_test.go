package ostree_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/okd-project/okd-streams/ostree"
	"github.com/okd-project/okd-streams/publish/ed25519signer"
)

// exampleKey is a key of RFC 8032's test vectors, as OSTree writes it.
func exampleKey() *ed25519signer.Signer {
	key, err := ed25519signer.ParseSigner([]byte("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="))
	if err != nil {
		log.Fatal(err)
	}
	return key
}

func ExampleRepo_Sign() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	// A signer of pgpsigner, in the form Detached, signs with ostree.SignatureGPG.
	if err := r.Sign(ctx, c, ostree.SignatureEd25519, exampleKey()); err != nil {
		log.Fatal(err)
	}
	signatures, err := r.Signatures(ctx, c)
	fmt.Println(len(signatures), err)
	// Output: 1 <nil>
}

func ExampleRepo_Verify() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	v, err := ostree.ParseVerifier(ostree.KeyFiles{Ed25519: [][]byte{[]byte(exampleKey().Public())}})
	if err != nil {
		log.Fatal(err)
	}
	_, err = r.Verify(ctx, c, v, time.Unix(1_700_000_000, 0))
	fmt.Println(errors.Is(err, ostree.ErrSignature)) // not signed
	if err := r.Sign(ctx, c, ostree.SignatureEd25519, exampleKey()); err != nil {
		log.Fatal(err)
	}
	verdicts, err := r.Verify(ctx, c, v, time.Unix(1_700_000_000, 0))
	fmt.Println(err)
	for _, verdict := range verdicts {
		fmt.Println(verdict.Kind, verdict.Signer, verdict.Err)
	}
	// Output:
	// true
	// <nil>
	// ostree.sign.ed25519 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= <nil>
}

// What was fetched is checked before it is stored.
func ExampleVerifier_Verify() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	if err := r.Sign(ctx, c, ostree.SignatureEd25519, exampleKey()); err != nil {
		log.Fatal(err)
	}
	commit, err := r.Object(ctx, ostree.TypeCommit, c)
	if err != nil {
		log.Fatal(err)
	}
	metadata, err := r.ReadMetadata(ctx, c)
	if err != nil {
		log.Fatal(err)
	}
	v, err := ostree.ParseVerifier(ostree.KeyFiles{Ed25519: [][]byte{[]byte(exampleKey().Public())}})
	if err != nil {
		log.Fatal(err)
	}
	_, err = v.Verify(ctx, commit, metadata, time.Unix(1_700_000_000, 0))
	fmt.Println(err)
	_, err = v.Verify(ctx, append(commit, 0), metadata, time.Unix(1_700_000_000, 0))
	fmt.Println(errors.Is(err, ostree.ErrUnknownKey))
	// Output:
	// <nil>
	// true
}

func ExampleRepo_Signatures() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	if err := r.Sign(ctx, c, ostree.SignatureEd25519, exampleKey()); err != nil {
		log.Fatal(err)
	}
	signatures, err := r.Signatures(ctx, c)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range signatures {
		fmt.Println(s.Kind, len(s.Data))
	}
	// Output: ostree.sign.ed25519 64
}

func ExampleRepo_RemoveSignatures() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	if err := r.Sign(ctx, c, ostree.SignatureEd25519, exampleKey()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.RemoveSignatures(ctx, c, func(s ostree.Signature) bool { return s.Kind == ostree.SignatureEd25519 }))
	// Output: 1 <nil>
}

func ExampleParseVerifier() {
	_, err := ostree.ParseVerifier(ostree.KeyFiles{Ed25519: [][]byte{[]byte("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n")}})
	fmt.Println(err)
	_, err = ostree.ParseVerifier(ostree.KeyFiles{})
	fmt.Println(err)
	// Output:
	// <nil>
	// ostree: parse keys: no file of trusted keys
}

func ExampleRepo_RemoteVerifiers() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	for key, value := range map[string]string{"url": "https://example.com/repo", "gpg-verify": "false", "sign-verify": "ed25519",
		"verification-ed25519-key": exampleKey().Public()} {
		if err := r.SetConfig(ctx, `remote "fedora"`, key, value); err != nil {
			log.Fatal(err)
		}
	}
	again, err := ostree.Open(ctx, r.Path(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer again.Close()
	commits, _, err := again.RemoteVerifiers(ctx, "fedora", ostree.KeyFiles{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = again.Verify(ctx, c, commits, time.Unix(1_700_000_000, 0))
	fmt.Println(errors.Is(err, ostree.ErrSignature)) // not signed
	if err := again.Sign(ctx, c, ostree.SignatureEd25519, exampleKey()); err != nil {
		log.Fatal(err)
	}
	_, err = again.Verify(ctx, c, commits, time.Unix(1_700_000_000, 0))
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}
