package publish_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/signature"
	"github.com/okd-project/okd-streams/publish"
)

func TestOneFamilyOfSignatureErrors(t *testing.T) {
	for _, pair := range [][2]error{
		{signature.ErrSignature, publish.ErrSignature}, {signature.ErrUnknownKey, publish.ErrUnknownKey},
		{signature.ErrExpired, publish.ErrExpired}, {signature.ErrRevoked, publish.ErrRevoked}, {signature.ErrWeak, publish.ErrWeak},
	} {
		require.ErrorIs(t, pair[0], pair[1])
		require.ErrorIs(t, pair[1], publish.ErrSignature)
	}
}
