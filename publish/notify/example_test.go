package notify_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/okd-project/okd-streams/publish/notify"
	"github.com/okd-project/okd-streams/stream"
)

func ExampleSend() {
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"event_id":"$1"}`) }))
	defer home.Close()
	// As a stream's definition has them.
	targets := []stream.Notification{
		{Kind: stream.Matrix, URL: home.URL, Target: "!room:example.com", Credentials: &stream.Credentials{Env: map[string]string{"token": "MATRIX_TOKEN"}}},
		{Kind: stream.Mail, Target: "okd@example.com"},
		{Kind: stream.Slack, URL: "https://example.com/", On: []stream.Occasion{stream.OnFailure}},
	}
	event := &notify.Event{Occasion: stream.OnPromotion, Stream: "okd-scos-stable", Release: "4.21.0-okd-scos.3", Time: time.Unix(1795669200, 0)}
	results := notify.Send(context.Background(), targets, event, &notify.Options{
		Secret: func(context.Context, *stream.Credentials, string) (string, error) { return "secret", nil },
	})
	for _, r := range results {
		fmt.Println(r.Kind, r.Target, r.Err)
	}
	// Output:
	// matrix !room:example.com <nil>
	// mail okd@example.com publish/notify: send mail okd@example.com: mail: unsupported operation
}
