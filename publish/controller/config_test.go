package controller_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/internal/fuzzbound"
	"github.com/okd-project/okd-streams/internal/mutants"
	"github.com/okd-project/okd-streams/publish/controller"
	"github.com/okd-project/okd-streams/stream"
)

// scos420 is what okd-scos-4.20 has, by pipelines.md 3.2.
const scos420 = `{"name":"4.20.0-0.okd-scos","message":"SCOS","to":"release-scos","mirrorPrefix":"4.20-okd-scos",` +
	`"maxUnreadyReleases":1,"minCreationIntervalSeconds":43200,"expires":"72h",` +
	`"verify":{"aws":{"prowJob":{"name":"periodic-ci-openshift-release-main-okd-scos-4.20-e2e-aws-ovn"},"maxRetries":1},` +
	`"aws-upgrade-minor":{"optional":true,"upgrade":true,"upgradeFromRelease":{"candidate":{"stream":"okd","version":"4.19"}},"prowJob":{"name":"x"}}},` +
	`"publish":{"tag":{"tagRef":{"name":"scos-4.20"}}}}`

func TestConfigRoundTrip(t *testing.T) {
	for name, text := range map[string]string{
		"integration": scos420,
		"stable":      `{"name":"4-scos-stable","as":"Stable","maxUnreadyReleases":1,"minCreationIntervalSeconds":86400,"expires":"72h","pullSecretName":"source","overrideCLIImage":"example.com/cli","verify":{"upgrade":{"upgrade":true,"upgradeFrom":"PreviousPatch","prowJob":{"name":"x"},"maxRetries":2}}}`,
		"unknown":     `{"name":"x","to":"release","alternateImageRepository":"example.com/r","referenceRelease":{"pushRepository":"a","z":[1, 2]},"zz":1e400}`,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := controller.DecodeConfig([]byte(text))
			require.NoError(t, err)
			out, err := c.Encode()
			require.NoError(t, err)
			require.Equal(t, strings.ReplaceAll(text, "1, 2", "1,2"), string(out))
		})
	}
	c, err := controller.DecodeConfig([]byte(scos420))
	require.NoError(t, err)
	blocking, informing := c.GateNames()
	require.Equal(t, []string{"aws"}, blocking)
	require.Equal(t, []string{"aws-upgrade-minor"}, informing)

	// The API writes every member, most of them empty.
	c, err = controller.DecodeConfig([]byte(`{"name":"4-scos-next","message":"","hide":false,"endOfLife":false,"as":"Stable","to":"","maxUnreadyReleases":0,"verify":null,"publish":null,"upgrade":null,"referenceRelease":null}`))
	require.NoError(t, err)
	require.Equal(t, controller.Stable, c.As)
}

func TestBadConfig(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"not JSON":     {"{", "unexpected end"},
		"no name":      {`{"to":"x"}`, "name is missing"},
		"no target":    {`{"name":"x"}`, "to is missing"},
		"mode":         {`{"name":"x","as":"Other"}`, `as: "Other"`},
		"expires":      {`{"name":"x","to":"x","expires":"3d"}`, `expires: "3d"`},
		"no job":       {`{"name":"x","to":"x","verify":{"a":{}}}`, "verify.a: prowJob.name is missing"},
		"async":        {`{"name":"x","to":"x","verify":{"a":{"async":true,"prowJob":{"name":"x"}}}}`, "verify.a: async"},
		"upgrade from": {`{"name":"x","to":"x","verify":{"a":{"upgradeFrom":"PreviousMicro","prowJob":{"name":"x"}}}}`, "verify.a: upgradeFrom"},
		"negative":     {`{"name":"x","to":"x","maxUnreadyReleases":-1}`, "not below 0"},
		"too large":    {`{"name":"x","to":"` + strings.Repeat("x", 4*controller.MaxConfigSize) + `"}`, "limit 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := controller.DecodeConfig([]byte(test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
	c := &controller.Config{Name: "x", To: strings.Repeat("x", controller.MaxConfigSize)}
	_, err := c.Encode()
	require.ErrorContains(t, err, "limit 16384")
	_, err = (&controller.Config{}).Encode()
	require.ErrorContains(t, err, "name is missing")
}

func TestFromDefinition(t *testing.T) {
	d, err := stream.Builtin("okd-scos-next")
	require.NoError(t, err)
	c, err := controller.FromDefinition(d, "release-scos")
	require.NoError(t, err)
	require.Equal(t, "4.22.0-0.okd-scos-nightly", c.Name)
	require.Equal(t, "4.22-okd-scos-nightly", c.MirrorPrefix)
	require.Equal(t, map[string]controller.Verify{
		"aws": {MaxRetries: 1, ProwJob: &controller.ProwJob{Name: "periodic-ci-openshift-release-main-okd-scos-4.22-e2e-aws-ovn"}},
	}, c.Verify)
	data, err := c.Encode()
	require.NoError(t, err)
	again, err := controller.DecodeConfig(data)
	require.NoError(t, err)
	require.Equal(t, c, again)

	sample, err := stream.Builtin("sample")
	require.NoError(t, err)
	_, err = controller.FromDefinition(sample, "release")
	require.ErrorContains(t, err, "names them by time")
}

func FuzzDecodeConfig(f *testing.F) {
	mutants.Add(f,
		scos420,
		`{"name":"x","to":"x","a\"b":null,"Name":"y"}`,
		`{"name":"x","to":"`+strings.Repeat("<", 12<<10)+`"}`,
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := fuzzbound.Parse(t, 512, controller.DecodeConfig, data)
		if err != nil {
			return
		}
		out, err := json.Marshal(c)
		require.NoError(t, err)
		if len(out) > 4*controller.MaxConfigSize {
			return // "<" is written with six bytes; Encode refuses it
		}
		again, err := controller.DecodeConfig(out)
		require.NoError(t, err)
		second, err := json.Marshal(again)
		require.NoError(t, err)
		require.Equal(t, string(out), string(second))
	})
}
