package retention

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/okd-project/okd-streams/internal/strictyaml"
)

// MaxPolicySize bounds a policy file, bytes.
const MaxPolicySize = 1 << 20

// Policy says from which age on what of a stream's builds goes; 0: never.
type Policy struct {
	CloudUploads time.Duration // AMIs and the like
	Images       time.Duration // disk images, but those of ImagesKeep
	ImagesKeep   []string      // artifacts: qemu, live-iso, …
	Containers   time.Duration // images in the registry
	Build        time.Duration // all of the build
}

// DecodePolicies reads gc-policy.yaml: a policy for each stream. Ages are a
// number with d, w, m or y: days, weeks, months of 30 days, years of 365; at most
// 36,500 days. Every fault names the stream and the key.
func DecodePolicies(r io.Reader) (map[string]Policy, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxPolicySize+1))
	if err == nil && len(data) > MaxPolicySize {
		err = fmt.Errorf("more than %d bytes", MaxPolicySize)
	}
	var file map[string]struct {
		CloudUploads string   `yaml:"cloud-uploads"`
		Images       string   `yaml:"images"`
		ImagesKeep   []string `yaml:"images-keep"`
		Containers   string   `yaml:"containers"`
		Build        string   `yaml:"build"`
	}
	if err == nil {
		err = strictyaml.Unmarshal(data, &file)
	}
	if err != nil {
		return nil, fmt.Errorf("publish/retention: policy: %w", err)
	}
	out := map[string]Policy{}
	var faults []error
	for _, stream := range slices.Sorted(maps.Keys(file)) {
		f, p := file[stream], Policy{}
		for _, rule := range []struct {
			key, text string
			age       *time.Duration
		}{{"cloud-uploads", f.CloudUploads, &p.CloudUploads}, {"images", f.Images, &p.Images}, {"containers", f.Containers, &p.Containers}, {"build", f.Build, &p.Build}} {
			if *rule.age, err = age(rule.text); err != nil {
				faults = append(faults, fmt.Errorf("publish/retention: policy: %.80s.%s: %w", stream, rule.key, err))
			}
		}
		if p.ImagesKeep = f.ImagesKeep; len(p.ImagesKeep) > 0 && p.Images == 0 {
			faults = append(faults, fmt.Errorf("publish/retention: policy: %.80s.images-keep: without images nothing goes", stream))
		}
		if p.Build > 0 && p.Build < max(p.CloudUploads, p.Images, p.Containers) {
			faults = append(faults, fmt.Errorf("publish/retention: policy: %.80s.build: the build goes before what it is made of", stream))
		}
		out[stream] = p
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return out, nil
}

func age(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	units := map[byte]int{'d': 1, 'w': 7, 'm': 30, 'y': 365}
	unit, number := units[text[len(text)-1]], strings.TrimSpace(text[:len(text)-1])
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || unit == 0 || n == 0 || int(n)*unit > 36500 {
		return 0, fmt.Errorf("%.40q is no age such as 14d, 2w, 3m or 1y", text)
	}
	return time.Duration(n) * time.Duration(unit) * 24 * time.Hour, nil
}
