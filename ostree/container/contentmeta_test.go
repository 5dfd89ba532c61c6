package container_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/ostree/container"
)

var (
	zeros = strings.Repeat("0", 63)
	meta  = fmt.Sprintf(`{"version":1,"created":"2026-01-02T03:04:05Z","labels":{"a":"b"},
 "layers":{"two":"second","one":"first"},"mapping":{"%[1]s1":"two","%[1]s2":"one","%[1]s3":"two"}}`, zeros)
)

func TestDecodeContentMeta(t *testing.T) {
	m, err := container.DecodeContentMeta(strings.NewReader(meta))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "b"}, m.Labels)
	require.Equal(t, 2026, m.Created.Year())
	got := m.Components()
	require.Len(t, got, 2)
	require.Equal(t, "one", got[0].ID)
	require.Equal(t, "first", got[0].Name)
	require.Equal(t, "two", got[1].ID)
	require.Equal(t, checksum(t, zeros+"1"), got[1].Objects[0])
	require.Equal(t, checksum(t, zeros+"3"), got[1].Objects[1])

	var buf bytes.Buffer
	require.NoError(t, m.Encode(&buf))
	again, err := container.DecodeContentMeta(&buf)
	require.NoError(t, err)
	require.Equal(t, m, again)
}

func TestDecodeContentMetaFaults(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string
	}{
		{``, []string{"EOF"}},
		{`[]`, []string{"cannot unmarshal"}},
		{`{"version":1} x`, []string{"more after"}},
		{`{"version":2}`, []string{"version 2"}},
		{`{"version":1,"mapping":{"abc":"one"}}`, []string{"checksum"}},
		{`{"version":1,"mapping":{"":"one"},"layers":{"one":"x"}}`, []string{"no checksum"}},
		{`{"version":3,"layers":{"":"x","b":"","c":"d,e"},"mapping":{"` + zeros + `1":"q"}}`, []string{
			"version 3", "ID is empty", `layers."b": name is empty`, `"d,e" has a comma`, `layer "q" is not among layers`}},
	} {
		_, err := container.DecodeContentMeta(strings.NewReader(tc.text))
		for _, want := range tc.want {
			require.ErrorContains(t, err, want)
		}
		require.ErrorContains(t, err, "container: decode contentmeta")
	}
	_, err := container.DecodeContentMeta(strings.NewReader(`{"version":2}`))
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func FuzzDecodeContentMeta(f *testing.F) {
	mutants.Add(f,
		meta,
		`{"version":1,"layers":{"a":"b"},"mapping":{}}`,
		`{"version":1,"mapping":{"":"x"}}`,
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := fuzzbound.Read(t, 200, container.DecodeContentMeta, data)
		if err != nil {
			return
		}
		require.True(t, json.Valid(data))
		objects := 0
		for _, c := range m.Components() {
			require.NotEmpty(t, c.ID)
			require.NotContains(t, c.Name, ",")
			objects += len(c.Objects)
		}
		require.Equal(t, len(m.Mapping), objects)
		var buf bytes.Buffer
		require.NoError(t, m.Encode(&buf))
		again, err := container.DecodeContentMeta(&buf)
		require.NoError(t, err)
		require.Equal(t, m.Components(), again.Components())
	})
}

func ExampleDecodeContentMeta() {
	m, err := container.DecodeContentMeta(strings.NewReader(`{"version": 1,
		"layers": {"kernel": "Linux", "rest": "all else"},
		"mapping": {"87428fc522803d31065e7bce3cf03fe475096631e5e07bbd7a0fde60c4cf25c7": "kernel"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range m.Components() {
		fmt.Println(c.ID, c.Name, len(c.Objects))
	}
	// Output:
	// kernel Linux 1
	// rest all else 0
}
