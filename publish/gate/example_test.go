package gate_test

import (
	"context"
	"fmt"
	"time"

	"github.com/okd-project/okd-streams/publish/gate"
	"github.com/okd-project/okd-streams/publish/memstore"
	"github.com/okd-project/okd-streams/stream"
)

func ExampleEvaluate() {
	ctx := context.Background()
	now := time.Date(2026, 6, 10, 12, 0, 0, 0, time.UTC)
	release := gate.Subject{Release: "4.22.0-okd-scos.1", Digest: digest("1")}
	book := gate.Book{Store: memstore.New()}
	err := book.Record(ctx,
		gate.Result{Gate: "install", Subject: release, State: gate.Passed, Reason: "3 tests passed", At: now},
		gate.Result{Gate: "upgrade", Subject: release, State: gate.Waived, Reason: "the cloud is down", By: "A. Person", At: now, Expires: now.AddDate(0, 0, 7)},
		gate.Result{Gate: "vsphere", Subject: release, State: gate.Failed, Reason: "1 of 20 tests failed", At: now},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	results, err := book.Results(ctx, release.Digest)
	if err != nil {
		fmt.Println(err)
		return
	}
	verdict := gate.Evaluate([]stream.Gate{
		{Name: "install", Kind: stream.GateInstall},
		{Name: "upgrade", Kind: stream.GateUpgrade},
		{Name: "vsphere", Kind: stream.GateExternal, Mode: stream.Informing},
		{Name: "kola", Kind: stream.GateKola},
	}, release, results, now, nil)
	for _, g := range verdict.Gates {
		fmt.Printf("%-8s %-8s %s\n", g.Gate, g.State, g.Reason)
	}
	fmt.Println(verdict.Err())
	// Output:
	// install  passed   3 tests passed
	// upgrade  waived   A. Person: the cloud is down (until 2026-06-17T12:00:00Z)
	// vsphere  failed   1 of 20 tests failed
	// kola     pending  no result
	// waiting for kola
}
