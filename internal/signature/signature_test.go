package signature_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/signature"
)

func TestReasonsAreOneFamily(t *testing.T) {
	all := []error{signature.ErrUnknownKey, signature.ErrExpired, signature.ErrRevoked, signature.ErrWeak}
	for i, err := range all {
		require.ErrorIs(t, err, signature.ErrSignature)
		for j, other := range all {
			require.Equal(t, i == j, errors.Is(err, other))
		}
	}
}

func TestCopy(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, signature.Copy(t.Context(), &out, iotest.DataErrReader(strings.NewReader("message"))))
	require.Equal(t, "message", out.String())

	broken := errors.New("broken")
	require.ErrorIs(t, signature.Copy(t.Context(), &out, iotest.ErrReader(broken)), broken)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, signature.Copy(ctx, &out, strings.NewReader("more")), context.Canceled)
}

func TestReadAll(t *testing.T) {
	data, err := signature.ReadAll(t.Context(), strings.NewReader("1234"), 4, "document")
	require.NoError(t, err)
	require.Equal(t, "1234", string(data))
	_, err = signature.ReadAll(t.Context(), strings.NewReader("12345"), 4, "document")
	require.ErrorIs(t, err, signature.ErrSignature)
	broken := errors.New("broken")
	_, err = signature.ReadAll(t.Context(), iotest.ErrReader(broken), 4, "document")
	require.ErrorIs(t, err, broken)
	require.NotErrorIs(t, err, signature.ErrSignature)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = signature.ReadAll(ctx, strings.NewReader(""), 4, "document")
	require.ErrorIs(t, err, context.Canceled)
}

func TestCheckNames(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"0":                           "",
		`{"a":{"b":1},"c":[{"b":1}]}`: "",
		`{"a":1,"A":2} `:              "",
		`{"a":1,"\u0061":2}`:          `"a" is there twice`,
		`[{"b":{"a":1,"a":2}}]`:       `"a" is there twice`,
		`{}{}`:                        "something follows the value",
		"1 2":                         "something follows the value",
		strings.Repeat("0", 9):        "something follows the value",
		`[] x`:                        "invalid character",
		strings.Repeat("[", 34):       "nested too deeply",
	} {
		err := signature.CheckNames([]byte(text))
		if want == "" {
			require.NoError(t, err, text)
		} else {
			require.ErrorContains(t, err, want, text)
		}
	}
	// Values one behind the other cost nothing but the first.
	many := bytes.Repeat([]byte("0"), 1<<20)
	fuzzbound.Linear(t, len(many), 4, func() { require.Error(t, signature.CheckNames(many)) })
}
