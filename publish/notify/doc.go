// Package notify tells people what happened to a stream: in a Matrix room, by a
// Slack incoming webhook, or by a webhook of their own.
//
// [Send] tells all targets of a stream's definition that want to know of the
// occasion, side by side, and gives a [Result] for each. It has no error: that
// nobody could be told never fails what they were to be told of. The results are
// there to be recorded.
//
// Matrix is spoken as the client-server API v1.11 has it: PUT
// /_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}, with the token in the
// Authorization header and nowhere else. The transaction's id comes from the
// content, so that a server gives the same message, sent again, one place in the
// room. Text that looks like a mention pings nobody.
//
// A webhook gets the [Event] as JSON with an Idempotency-Key from its content, and,
// where a key is given, X-Hub-Signature-256: "sha256=" and the HMAC of the body, as
// GitHub signs its own. If the answer is lost it is sent again with the same key.
// Slack knows no such key: there such a message is not sent again.
//
// Secrets come from the caller, by the reference that the definition has, by role:
// "token" of Matrix and, sent as bearer token, of a webhook; "url" for the address
// of a webhook; "key" for what its messages are signed with. They are in no
// result, error or log; nor is the address of a Slack webhook, which is one.
//
// Mail is not supported ([errors.ErrUnsupported]): relays, senders and their proofs
// are a matter of the site, which a webhook can hand on to.
package notify
