package disk_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/okd-project/okd-streams/bootimage/disk"
	"github.com/okd-project/okd-streams/internal/fuzzbound"
)

// FuzzPlatforms: of a disk's own table nothing gets through that would be more than an
// argument or a command where it is written.
func FuzzPlatforms(f *testing.F) {
	f.Add([]byte(`{"aws":{"kernel_arguments":["console=tty0"],"grub_commands":["serial --speed=115200"]}}`))
	f.Add([]byte(`{"a b":{}}`))
	f.Add([]byte(`{"a":{"kernel_arguments":["x\nlinux /evil"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var kernel, grub map[string][]string
		var err error
		fuzzbound.Linear(t, len(data), 512, func() { kernel, grub, err = disk.CheckPlatforms(data) })
		if err != nil {
			return
		}
		for name, arguments := range kernel {
			require.Regexp(t, "^[a-z0-9]{1,40}$", name)
			for _, a := range arguments {
				require.NotEmpty(t, a)
				require.False(t, strings.ContainsAny(a, " \t\r\n\x00"))
			}
			for _, command := range grub[name] {
				require.False(t, strings.ContainsAny(command, "\r\n\x00"))
				require.False(t, strings.HasPrefix(command, "#"))
			}
		}
		again, err := json.Marshal(kernel)
		require.NoError(t, err)
		require.True(t, json.Valid(again))
	})
}

// FuzzOVFTemplate: a template is refused, or its sizes are those of the disk and all
// else in it stays.
func FuzzOVFTemplate(f *testing.F) {
	f.Add("<File href=\"disk.vmdk\" size=\"{vmdk_size}\"/>")
	f.Add("{vmdk_capacity}{vmdk_size}disk.vmdk{")
	f.Add("disk.vmdk")
	raw := newGPT(512, 64<<10, gptPart{64, 127, "boot"})
	f.Fuzz(func(t *testing.T, template string) {
		root := openRoot(t)
		targets := []disk.Target{{Name: "a.ova", Format: disk.OVA, OVF: &disk.OVF{Template: template}}}
		image := openRaw(t, bytes.NewReader(raw), len(raw))
		var err error
		fuzzbound.Within(t, 32<<20+512*len(template), func() {
			_, err = disk.Convert(t.Context(), root, image, targets, &disk.ConvertOptions{NoSync: true})
		})
		if len(template) > 1<<20 || template != "" && (!strings.Contains(template, "{vmdk_size}") || !strings.Contains(template, "disk.vmdk")) {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		data, err := root.ReadFile("a.ova")
		require.NoError(t, err)
		info, err := disk.Probe(t.Context(), bytes.NewReader(data), int64(len(data)))
		require.NoError(t, err)
		require.Equal(t, disk.OVA, info.Format)
		require.False(t, bytes.Contains(data, []byte("{vmdk_size}")))
	})
}
