package ostree_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/okd-project/okd-streams/ostree"
)

func ExampleRepo_UpdateSummary() {
	ctx := context.Background()
	r, c, done := exampleRepo()
	defer done()
	if err := r.SetRef(ctx, "os/x86_64/stable", c); err != nil {
		log.Fatal(err)
	}
	err := r.UpdateSummary(ctx, &ostree.SummaryOptions{
		LastModified: time.Unix(1_700_000_000, 0),
		Sign:         []ostree.SummarySigner{{Kind: ostree.SignatureEd25519, Signer: exampleKey()}},
	})
	if err != nil {
		log.Fatal(err)
	}
	data, signature, err := r.ReadSummary(ctx)
	if err != nil {
		log.Fatal(err)
	}
	summary, err := ostree.DecodeSummary(data)
	if err != nil {
		log.Fatal(err)
	}
	ref, found := summary.Ref("os/x86_64/stable")
	fmt.Println(found, ref.Commit == c, summary.LastModified())
	signatures, err := ostree.DecodeMetadata(signature)
	if err != nil {
		log.Fatal(err)
	}
	v, err := ostree.ParseVerifier(ostree.KeyFiles{Ed25519: [][]byte{[]byte(exampleKey().Public())}})
	if err != nil {
		log.Fatal(err)
	}
	verdicts, err := v.Verify(ctx, data, signatures, time.Time{})
	fmt.Println(len(verdicts), err)
	// Output:
	// true true 2023-11-14 22:13:20 +0000 UTC
	// 1 <nil>
}
