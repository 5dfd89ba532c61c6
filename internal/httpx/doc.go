// Package httpx is the one HTTP layer under every backend that speaks to a
// server, and the only place of this module that repeats a request.
//
// [Transport] wraps a round tripper: requests that can be repeated are, with
// exponential back-off, jitter and Retry-After; a server that stops talking is
// given up, one that is slow but talks is not; [RedactURL] and [Redact] keep
// credentials out of errors and logs; [ReadBody] reads documents up to a limit;
// [NewClient] follows redirects without taking credentials along; [NewBase] has
// proxies and certificates. [Kept] fetches many small files from a plain server
// with less effort, and leaves everything that is not simple to the others.
//
// A host that answers 429 or 503 gets fewer requests at once, half as many each
// time down to one, and none before its Retry-After is over; one more after
// every eighth good answer, up to [Options.MaxPerHost].
//
// What is repeated: GET, HEAD, OPTIONS, PUT and DELETE (PUT and DELETE only
// without If-Match and If-None-Match, where a repetition after a lost answer
// would be refused and look like somebody else's write), after an error of the
// connection, a timeout of ours, or a status 408, 429 or 5xx other than 501 and
// 505. Any other request is repeated only when it cannot have been carried out:
// no connection was made, or the answer was 429 or 503. A request with a body
// needs [http.Request.GetBody]. A response that breaks off while its body is
// being read is not repeated: the reader gets the error. [Once] is for those
// who repeat by themselves.
package httpx
