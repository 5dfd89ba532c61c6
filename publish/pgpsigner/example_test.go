package pgpsigner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/publish"
	"github.com/okd-project/okd-streams/publish/pgpsigner"
)

func exampleNow() time.Time { return time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC) }

func exampleKeys() *pgpsigner.Keyring {
	data, err := os.ReadFile("testdata/ed.asc")
	if err != nil {
		panic(err)
	}
	keys, err := pgpsigner.ParseKeyring(data)
	if err != nil {
		panic(err)
	}
	return keys
}

func exampleSigner(form pgpsigner.Form) *pgpsigner.Signer {
	key, err := os.ReadFile("testdata/ed.secret.asc")
	if err != nil {
		panic(err)
	}
	signer, err := pgpsigner.ParseSigner(key, exampleNow, &pgpsigner.SignerOptions{
		Form:       form,
		Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
	})
	if err != nil {
		panic(err)
	}
	return signer
}

// A boot image's signature lies beside it.
func ExampleSigner_Sign() {
	ctx := context.Background()
	sig, err := exampleSigner(pgpsigner.Detached).Sign(ctx, strings.NewReader("a disk"))
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := pgpsigner.NewVerifier(exampleKeys(), exampleNow, nil)
	signer, err := verifier.Verify(ctx, strings.NewReader("a disk"), sig)
	fmt.Println(signer, err)
	_, err = verifier.Verify(ctx, strings.NewReader("another disk"), sig)
	fmt.Println(errors.Is(err, publish.ErrSignature))
	// Output:
	// A0105988C025E81558B90B415EC09279D76EE97F <nil>
	// true
}

// A release's signature holds the message that it signs.
func ExampleVerifier_Open() {
	ctx := context.Background()
	signed, err := exampleSigner(pgpsigner.Message).Sign(ctx, strings.NewReader(`{"critical": {}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	content, _, err := pgpsigner.NewVerifier(exampleKeys(), exampleNow, nil).Open(ctx, bytes.NewReader(signed))
	fmt.Println(string(content), err)
	// Output: {"critical": {}} <nil>
}

// A clear-signed text and everything that is known of who signed it.
func ExampleVerifier_OpenSignatures() {
	ctx := context.Background()
	signed, err := exampleSigner(pgpsigner.Clear).Sign(ctx, strings.NewReader("0123  disk.raw\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	content, all, err := pgpsigner.NewVerifier(exampleKeys(), exampleNow, nil).OpenSignatures(ctx, bytes.NewReader(signed))
	fmt.Print(string(content))
	fmt.Println(all[0].UserIDs, all[0].Text, err)
	// Output:
	// 0123  disk.raw
	// [ed <ed@example.com>] true <nil>
}

// Whether and why each signature counts.
func ExampleVerifier_Signatures() {
	message, err := os.ReadFile("testdata/message")
	if err != nil {
		fmt.Println(err)
		return
	}
	sig, err := os.ReadFile("testdata/ed.message.sig")
	if err != nil {
		fmt.Println(err)
		return
	}
	all, err := pgpsigner.NewVerifier(exampleKeys(), exampleNow, nil).Signatures(context.Background(), bytes.NewReader(message), sig)
	for _, s := range all {
		fmt.Println(s.UserIDs, s.Created, s.Digest, s.Err)
	}
	fmt.Println(err)
	// Output:
	// [ed <ed@example.com>] 2024-04-10 12:00:00 +0000 UTC SHA-256 <nil>
	// <nil>
}

func ExampleParseKeyring() {
	data, err := os.ReadFile("testdata/ed.asc")
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := pgpsigner.ParseKeyring(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(keys.Fingerprints())
	// Output: [A0105988C025E81558B90B415EC09279D76EE97F]
}

func ExampleReadKeyring() {
	_, err := pgpsigner.ReadKeyring(os.DirFS("testdata")) // holds more than public keys
	fmt.Println(errors.Is(err, publish.ErrSignature))
	// Output: true
}

// A verifier that still trusts what was signed before a key expired.
func ExampleNewVerifier() {
	message, sig, key := "testdata/message", "testdata/expired.message.sig", "testdata/expired.asc"
	var data [3][]byte
	for i, name := range []string{message, sig, key} {
		var err error
		if data[i], err = os.ReadFile(name); err != nil {
			fmt.Println(err)
			return
		}
	}
	keys, err := pgpsigner.ParseKeyring(data[2])
	if err != nil {
		fmt.Println(err)
		return
	}
	later := func() time.Time { return exampleNow().AddDate(5, 0, 0) }
	for _, opts := range []*pgpsigner.VerifierOptions{nil, {ExpiredKeys: true}} {
		_, err := pgpsigner.NewVerifier(keys, later, opts).Verify(context.Background(), bytes.NewReader(data[0]), data[1])
		fmt.Println(errors.Is(err, publish.ErrExpired))
	}
	// Output:
	// true
	// false
}

func ExampleParseSigner() {
	key, err := os.ReadFile("testdata/ed.secret.asc")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = pgpsigner.ParseSigner(key, exampleNow, nil)
	fmt.Println(err)
	// Output: pgp: secret key: protected by a passphrase, and none is given
}
