package container_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/interop"
	"github.com/okd-project/okd-streams/ostree/container"
)

// extCase is a question that was put to ostree-ext, drawn from its number.
type extCase struct {
	components []container.Component
	bins       int
	prior      container.Split
}

func drawExtCase(number int) extCase {
	d := drawing(number)
	c := extCase{bins: 4 + d.below(80)}
	n := d.below(6 * c.bins)
	if number%5 == 0 {
		n = c.bins + d.below(1+c.bins/4) // where the reference's arithmetic is short
	}
	c.components = drawComponents(&d, n, d.below(16))
	if number%3 == 0 && len(c.components) > 3 {
		// An earlier split: of some of these, and of some that are no more.
		c.prior = make(container.Split, 1+d.below(c.bins+1))
		for i := range c.components {
			if d.below(20) > 0 {
				at := d.below(len(c.prior))
				c.prior[at] = append(c.prior[at], c.components[i].Name)
			}
			if d.below(20) == 0 {
				at := d.below(len(c.prior))
				c.prior[at] = append(c.prior[at], fmt.Sprintf("gone%d", i))
			}
		}
	}
	return c
}

// question is the case as the recording program reads it.
func (c *extCase) question() ([]byte, error) {
	type component struct {
		Identifier      string `json:"identifier"`
		Name            string `json:"name"`
		ChangeFrequency uint32 `json:"change_frequency"`
		Size            int64  `json:"size"`
	}
	q := struct {
		Components []component  `json:"components"`
		Bins       int          `json:"bins"`
		Prior      *v1.Manifest `json:"prior,omitempty"`
	}{Components: []component{}, Bins: c.bins}
	for _, x := range c.components {
		q.Components = append(q.Components, component{x.ID, x.Name, x.Frequency, x.Size})
	}
	if c.prior != nil {
		q.Prior = &v1.Manifest{Layers: make([]v1.Descriptor, 1+len(c.prior))}
		for i, names := range c.prior {
			q.Prior.Layers[i+1].Annotations = map[string]string{container.AnnotationComponents: strings.Join(names, ",")}
		}
	}
	return json.Marshal(q)
}

// extAnswer is what was recorded: a hash of the layers that are not empty, as
// JSON of their identifiers.
type extAnswer struct {
	Case     int    `json:"case"`
	Question string `json:"question,omitempty"` // hash of the question
	Layers   int    `json:"layers,omitempty"`
	Plan     string `json:"plan,omitempty"`
	Crash    bool   `json:"crash,omitempty"`
}

func extHash(t testing.TB, chunks []container.Chunk) string {
	t.Helper()
	list := [][]string{}
	for _, c := range chunks {
		list = append(list, c.Components)
	}
	data, err := json.Marshal(list)
	require.NoError(t, err)
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// What ostree-ext 0.15.3 itself answered (testdata/ostreeext/README.md).
func TestOstreeExtPlans(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "ostreeext", "plans.json"))
	require.NoError(t, err)
	var answers []extAnswer
	require.NoError(t, json.Unmarshal(data, &answers))
	require.Len(t, answers, 400)
	crashes := 0
	for _, a := range answers {
		c := drawExtCase(a.Case)
		question, err := c.question()
		require.NoError(t, err)
		sum := sha256.Sum256(question)
		require.Equal(t, a.Question, hex.EncodeToString(sum[:8]), "case %d is drawn differently", a.Case)
		before := slices.Clone(c.components)
		chunks, err := container.OstreeExt{Prior: c.prior}.Plan(c.components, c.bins-1)
		require.NoError(t, err)
		require.Equal(t, before, c.components)
		requirePlan(t, c.components, chunks, c.bins-1)
		if a.Crash {
			crashes++
			continue
		}
		if a.Layers == c.bins && c.prior != nil {
			continue // no room for a reserved layer: see OstreeExt
		}
		require.Equal(t, a.Layers, len(chunks), "case %d", a.Case)
		require.Equal(t, a.Plan, extHash(t, chunks), "case %d", a.Case)
	}
	require.Positive(t, crashes)
}

func TestOstreeExtRefuses(t *testing.T) {
	_, err := container.OstreeExt{}.Plan(nil, 2)
	require.ErrorContains(t, err, "at least 3")
}

// The packages of Fedora CoreOS: hashes recorded like those of plans.json.
func TestOstreeExtFedora(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "ostreeext", "fedora.json"))
	require.NoError(t, err)
	var answers []extAnswer
	require.NoError(t, json.Unmarshal(data, &answers))
	components := fedora(t)
	for _, a := range answers {
		chunks, err := container.OstreeExt{}.Plan(components, a.Case-1)
		require.NoError(t, err)
		require.Equal(t, a.Layers, len(chunks))
		require.Equal(t, a.Plan, extHash(t, chunks), "%d layers", a.Case)
	}
}

// The recorded images were split by the reference itself, the second with the
// first as its prior.
func TestOstreeExtImages(t *testing.T) {
	if !interop.Enabled() {
		t.Skipf("takes seconds; set %s=1", interop.Variable)
	}
	repo := openRepo(t, unpack(t, "repo-archive.tar.zst"))
	for _, tc := range []struct{ image, pack, prior []string }{
		{[]string{"image-v1-pack8.tar.zst"}, []string{"expected", "pack1.json.zst"}, nil},
		{[]string{"v1b", "image-v1b-1-pack8.tar.zst"}, []string{"expected", "pack1.json.zst"}, nil},
		{[]string{"v1b", "image-v1b-2-pack8-prior.tar.zst"}, []string{"expected", "pack2.json.zst"}, []string{"v1b", "image-v1b-1-pack8.tar.zst"}},
	} {
		var p pack
		require.NoError(t, json.Unmarshal(readShared(t, tc.pack...), &p))
		components := p.components(t)
		for i := range components {
			for _, o := range components[i].Objects {
				f, err := repo.ReadFile(t.Context(), o)
				require.NoError(t, err)
				components[i].Size += f.Size
			}
		}
		var planner container.OstreeExt
		if tc.prior != nil {
			prior, err := container.SplitOf(golden(t, tc.prior...))
			require.NoError(t, err)
			planner.Prior = prior
		}
		chunks, err := planner.Plan(components, 7)
		require.NoError(t, err)
		want, err := container.SplitOf(golden(t, tc.image...))
		require.NoError(t, err)
		want = slices.DeleteFunc(want, func(layer []string) bool { return len(layer) == 0 })
		require.Equal(t, want, splitByName(components, chunks), tc.image)
	}
}

func ExampleOstreeExt() {
	chunks, err := container.OstreeExt{
		Prior: container.Split{{"bash"}, {"gone", "sed"}, {}},
	}.Plan([]container.Component{{ID: "sed-4.9", Name: "sed"}, {ID: "bash-5.2", Name: "bash"}, {ID: "new-1", Name: "new"}}, 3)
	fmt.Println(chunks, err)
	// Output: [{[bash-5.2]} {[sed-4.9]} {[new-1]}] <nil>
}
