package notify_test

import (
	"io/fs"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/publish/notify"
	"github.com/okd-project/okd-streams/stream"
)

// TestSynapse tells Matrix' reference home server, by a room's id and by its
// alias, the same thing thrice: it is in the room once, as it was said.
func TestSynapse(t *testing.T) {
	bot := interop.Synapse(t)
	var made struct {
		Room string `json:"room_id"`
	}
	require.NoError(t, bot.Call(t.Context(), "POST", "/_matrix/client/v3/createRoom", map[string]any{"room_alias_name": "okd", "preset": "public_chat"}, &made))
	opts := &notify.Options{Secret: secrets(map[string]string{"token": bot.Token, "wrong": "syt_hunter2"})}
	target := stream.Notification{Kind: stream.Matrix, URL: bot.URL, Target: made.Room, Credentials: credentials("token")}
	alias := target
	alias.Target = "#okd:example.com"
	var ids []string
	for _, n := range []stream.Notification{target, alias, target} {
		r := one(t, n, event(), opts)
		require.NoError(t, r.Err)
		ids = append(ids, r.ID)
	}
	require.Equal(t, []string{ids[0], ids[0], ids[0]}, ids)

	var timeline struct {
		Chunk []struct {
			Type    string
			Content map[string]any
		}
	}
	require.NoError(t, bot.Call(t.Context(), "GET", "/_matrix/client/v3/rooms/"+url.PathEscape(made.Room)+"/messages?dir=b&limit=50", nil, &timeline))
	var said []map[string]any
	for _, e := range timeline.Chunk {
		if e.Type == "m.room.message" {
			said = append(said, e.Content)
		}
	}
	require.Len(t, said, 1)
	require.Equal(t, "okd-scos-stable: 4.21.0-okd-scos.3 is released\nkernel <1> & @room\nRelease \"notes\": https://example.com/notes?a=1&b=2", said[0]["body"])
	require.Contains(t, said[0]["formatted_body"], "kernel &lt;1&gt; &amp; @room")

	// What it refuses, it refuses for the reasons that the tests' server gives.
	wrong := target
	wrong.Credentials = &stream.Credentials{Secret: "bot", Keys: map[string]string{"token": "wrong"}}
	r := one(t, wrong, event(), opts)
	require.ErrorIs(t, r.Err, fs.ErrPermission)
	require.ErrorContains(t, r.Err, "401 Unauthorized: M_UNKNOWN_TOKEN")
	alias.Target = "#none:example.com"
	require.ErrorIs(t, one(t, alias, event(), opts).Err, fs.ErrNotExist)
	target.Target = "!none:example.com"
	r = one(t, target, event(), opts)
	require.ErrorIs(t, r.Err, fs.ErrPermission)
	require.ErrorContains(t, r.Err, "403 Forbidden: M_FORBIDDEN")
}
