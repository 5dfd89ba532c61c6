package remoteregistry

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/okd-project/okd-streams/internal/httpx"
)

// maxTokenAnswer bounds what a token server says.
const maxTokenAnswer = 1 << 20

// oneLogin takes the refresh token out of a token server's answers. The transport of
// go-containerregistry would use it as the credentials from then on, and replaces them
// without a lock while other requests read them (v0.22.1, bearerTransport.refresh). The
// credentials that there are get the next token as well.
type oneLogin struct {
	next  http.RoundTripper
	realm *url.URL // the token server; nil: none that could be asked
}

func newOneLogin(next http.RoundTripper, realm string) *oneLogin {
	u, err := url.Parse(realm)
	if err != nil {
		u = nil
	}
	return &oneLogin{next, u}
}

func (o *oneLogin) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK || !o.asked(req.URL) {
		return resp, err
	}
	data, err := httpx.ReadBody(resp.Body, maxTokenAnswer)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	var answer map[string]json.RawMessage
	if json.Unmarshal(data, &answer) == nil {
		for key := range answer {
			if strings.EqualFold(key, "refresh_token") { // as encoding/json reads it
				delete(answer, key)
			}
		}
		if data, err = json.Marshal(answer); err != nil {
			return nil, err
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	return resp, nil
}

// asked reports whether a request goes to the token server.
func (o *oneLogin) asked(u *url.URL) bool {
	return o.realm != nil && u.Scheme == o.realm.Scheme && u.Host == o.realm.Host && u.Path == o.realm.Path
}
