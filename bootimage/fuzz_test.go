package bootimage_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

// FuzzParseOSVersion: a version that is read is within what its system can be, and a
// comparison of any two ends.
func FuzzParseOSVersion(f *testing.F) {
	for _, seed := range []string{"39.20231101.3.0", "9.6.20250402-0", "418.94.202410090804-0", "10.0.20251103-0", "4.2", "99999999.20250101.1.1", "00.00010101.3.0"} {
		f.Add(seed, "9.2")
	}
	f.Fuzz(func(t *testing.T, text, oldest string) {
		v, err := fuzzbound.Parse(t, 64, bootimage.ParseOSVersion, text)
		_, skewErr := bootimage.SkewOf(text, text, &bootimage.SkewOptions{Oldest: oldest})
		if err != nil {
			require.Error(t, skewErr)
			return
		}
		require.Equal(t, text, v.Text)
		require.NotEmpty(t, v.System())
		require.False(t, v.Date.IsZero())
		require.Less(t, v.Major+v.Minor+v.Fedora, 300)
	})
}

// FuzzDownloadState: whatever a stopped download left, going on with it gives the
// right file, or nothing at all under its name.
func FuzzDownloadState(f *testing.F) {
	data := noise(200_000)
	server := inProcess{&fileServer{data: data, ranges: true}}
	e := bootimage.Entry{URL: "http://server.example/d.raw", SHA256: sum256(data)}
	for _, done := range []string{"true,true,true,true", "true,false,true", "", "1"} {
		f.Add([]byte(fmt.Sprintf(`{"version":1,"sha256":%q,"size":200000,"range":65536,"done":[%s]}`, e.SHA256, done)), []byte("x"), uint32(200_000))
	}
	f.Add([]byte(`{"version":1,"size":-1,"range":0,"done":null}`), []byte{}, uint32(0))
	f.Add([]byte(`{"size":9223372036854775807,"range":1}`), []byte{}, uint32(1<<20))
	f.Fuzz(func(t *testing.T, state, part []byte, size uint32) {
		root := openRoot(t)
		require.NoError(t, root.WriteFile(".d.raw.part.json", state, 0o644))
		full := append(bytes.Clone(part), make([]byte, int(size%(1<<20)))...)
		require.NoError(t, root.WriteFile(".d.raw.part", full[:max(len(part), int(size%(1<<20)))], 0o644))
		var err error
		fuzzbound.Within(t, 16<<20+64*len(state), func() {
			_, err = bootimage.Download(t.Context(), root, "d.raw", e, &bootimage.DownloadOptions{RangeSize: 64 << 10, Transport: server})
		})
		if errors.Is(err, bootimage.ErrVerification) {
			require.Empty(t, names(t, root))
			return
		}
		require.NoError(t, err)
		got, err := root.ReadFile("d.raw")
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		require.Equal(t, []string{"d.raw"}, names(t, root))
	})
}

// inProcess is a transport to a server without a network.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, req)
	return w.Result(), nil
}

// FuzzOverride: what is merged into a document is in it, and it stays one.
func FuzzOverride(f *testing.F) {
	f.Add([]byte(`{"stream": "other", "metadata": {"generator": "own"}}`))
	f.Add([]byte(`{"architectures": null, "own": [1.50, {"a": {}}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, patch []byte) {
		d, err := bootimage.DecodeStream(bytes.NewReader([]byte(published)))
		require.NoError(t, err)
		was := d.Bytes()
		fuzzbound.Linear(t, len(was)+len(patch), 2000, func() { err = d.Override(patch) })
		if err != nil {
			require.Equal(t, was, d.Bytes())
			return
		}
		merged := d.Bytes()
		again, err := bootimage.DecodeStream(bytes.NewReader(merged))
		require.NoError(t, err)
		require.NoError(t, again.Override(patch))
		require.Equal(t, string(merged), string(again.Bytes()), "merged twice")
	})
}
