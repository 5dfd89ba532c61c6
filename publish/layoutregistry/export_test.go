package layoutregistry

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/ociimage"
)

// CheckIndex decodes an index.json, changes it and encodes it: nothing may be
// lost and a tag names one thing.
func CheckIndex(t *testing.T, data []byte, tag string) {
	t.Helper()
	x, err := fuzzbound.Parse(t, 512, decodeIndex, data)
	if err != nil {
		return
	}
	require.LessOrEqual(t, len(x.entries), 1+len(data)/20, "entries are bounded by the input")
	digests := map[v1.Hash]bool{}
	for _, e := range x.entries {
		digests[e.desc.Digest] = true
	}
	out, err := x.encode()
	require.NoError(t, err)
	again, err := decodeIndex(out)
	require.NoError(t, err, "%s", out)
	require.Len(t, again.entries, len(x.entries))
	require.Len(t, again.rest, len(x.rest))
	if ociimage.CheckTag(tag) != nil {
		return
	}
	h, _, err := v1.SHA256(strings.NewReader(""))
	require.NoError(t, err)
	digests[h] = true
	x.setTag(tag, v1.Descriptor{Digest: h, Size: 0})
	require.False(t, x.setTag(tag, v1.Descriptor{Digest: h, Size: 0}), "the second time nothing changes")
	named := 0
	for _, e := range x.entries {
		if e.tag == tag {
			named++
			require.Equal(t, h, e.desc.Digest)
		}
		delete(digests, e.desc.Digest)
	}
	require.Equal(t, 1, named)
	require.Empty(t, digests, "no manifest is lost")
	before := x.count()
	x.removeTag(tag)
	require.Empty(t, x.holders(tag))
	require.Len(t, x.count(), len(before), "a manifest that loses its tag stays")
	if _, err := x.convert(); err == nil {
		changed, err := x.convert()
		require.NoError(t, err)
		require.False(t, changed, "once is enough")
		require.Len(t, x.count(), len(before))
	}
	x.adopt([]v1.Descriptor{{Digest: h}})
	if out, err = x.encode(); err == nil {
		again, err = decodeIndex(out)
		require.NoError(t, err)
		require.Len(t, again.entries, len(x.entries))
		for i, e := range x.entries { // as a writer hands it to readers
			require.Equal(t, again.entries[i].tag, e.tag)
			require.Equal(t, again.entries[i].subject(), e.subject())
			require.Equal(t, again.entries[i].desc.Digest, e.desc.Digest)
			require.Equal(t, again.entries[i].desc.MediaType, e.desc.MediaType)
			require.Equal(t, again.entries[i].desc.Size, e.desc.Size)
		}
	}
}

// CheckIndexes makes sure that what is remembered is bounded, and that the
// repository used last is among it.
func CheckIndexes(t *testing.T) {
	t.Helper()
	var k indexes
	data := make([]byte, maxKept/4)
	for i := range 10 {
		k.put(string(rune('a'+i)), data, &index{})
		k.get("a")
	}
	var paths string
	for _, o := range k.kept {
		paths += o.path
	}
	require.Equal(t, "hija", paths)
	k.put("large", make([]byte, maxKept+1), &index{})
	require.Empty(t, k.kept)
}
