package bootimage

import (
	"fmt"
	"maps"
	"slices"

	streammd "github.com/coreos/stream-metadata-go/stream"
	"github.com/coreos/stream-metadata-go/stream/rhcos"
)

// Entry is one boot image that a document names: a file, or an image in a cloud.
type Entry struct {
	Arch     string `json:"arch"` // RPM spelling
	Platform string `json:"platform"`
	// Format is how the file is packed: raw.xz, 4k.raw.gz, iso, pxe; of Azure's
	// marketplace OFFER/GENERATION; "" for images in other clouds.
	Format  string `json:"format,omitempty"`
	File    string `json:"file,omitempty"`   // disk, kernel, initramfs, rootfs; "" for images in clouds
	Region  string `json:"region,omitempty"` // of images in clouds that have any
	Release string `json:"release,omitempty"`
	URL     string `json:"url,omitempty"`
	// Image is what the cloud calls it: an AMI, projects/PROJECT/global/images/NAME,
	// BUCKET/OBJECT, a pullspec by digest, a URN.
	Image              string `json:"image,omitempty"`
	Signature          string `json:"signature,omitempty"` // address
	SHA256             string `json:"sha256,omitempty"`    // lower-case hexadecimal
	UncompressedSHA256 string `json:"uncompressed-sha256,omitempty"`
	Size               int64  `json:"size,omitempty"` // bytes; 0: the document does not say, as no stream metadata does
	UncompressedSize   int64  `json:"uncompressed-size,omitempty"`
	Path               string `json:"path"` // of the value in the document
}

// key is what two documents call the same image by.
func (e Entry) key() string {
	return fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%s", e.Arch, e.Platform, e.Format, e.File, e.Region)
}

// Entries lists what stream metadata names, by architecture, then files by
// platform and format, then images in clouds by cloud and region.
func Entries(s *streammd.Stream) []Entry {
	var all []Entry
	for _, arch := range slices.Sorted(maps.Keys(s.Architectures)) {
		at := join("architectures", arch)
		all = appendFiles(all, arch, join(at, "artifacts"), s.Architectures[arch].Artifacts)
		all = appendImages(all, arch, join(at, "images"), s.Architectures[arch].Images)
		if x := s.Architectures[arch].RHELCoreOSExtensions; x != nil {
			all = appendExtensions(all, arch, join(at, "rhel-coreos-extensions"), x)
		}
	}
	return all
}

func appendFiles(all []Entry, arch, at string, platforms map[string]streammd.PlatformArtifacts) []Entry {
	for _, platform := range slices.Sorted(maps.Keys(platforms)) {
		p := platforms[platform]
		for _, format := range slices.Sorted(maps.Keys(p.Formats)) {
			f := p.Formats[format]
			for _, file := range []struct {
				name string
				a    *streammd.Artifact
			}{{"disk", f.Disk}, {"kernel", f.Kernel}, {"initramfs", f.Initramfs}, {"rootfs", f.Rootfs}} {
				if file.a == nil {
					continue
				}
				all = append(all, Entry{
					Arch: arch, Platform: platform, Format: format, File: file.name, Release: p.Release,
					URL: file.a.Location, Signature: file.a.Signature, SHA256: file.a.Sha256, UncompressedSHA256: file.a.UncompressedSha256,
					Path: join(join(join(join(at, platform), "formats"), format), file.name),
				})
			}
		}
	}
	return all
}

func appendImages(all []Entry, arch, at string, images streammd.Images) []Entry {
	replicated := func(platform string, r *streammd.ReplicatedImage) {
		if r == nil {
			return
		}
		for _, region := range slices.Sorted(maps.Keys(r.Regions)) {
			all = append(all, Entry{
				Arch: arch, Platform: platform, Region: region, Release: r.Regions[region].Release, Image: r.Regions[region].Image,
				Path: join(join(join(at, platform), "regions"), region),
			})
		}
	}
	objects := func(platform string, r *streammd.ReplicatedObject) {
		if r == nil {
			return
		}
		for _, region := range slices.Sorted(maps.Keys(r.Regions)) {
			o := r.Regions[region]
			all = append(all, Entry{
				Arch: arch, Platform: platform, Region: region, Release: o.Release, Image: o.Bucket + "/" + o.Object, URL: o.Url,
				Path: join(join(join(at, platform), "regions"), region),
			})
		}
	}
	replicated("aliyun", images.Aliyun)
	replicated("aws", images.Aws)
	if g := images.Gcp; g != nil {
		all = append(all, Entry{
			Arch: arch, Platform: "gcp", Release: g.Release, Image: "projects/" + g.Project + "/global/images/" + g.Name, Path: join(at, "gcp"),
		})
	}
	objects("ibmcloud", images.Ibmcloud)
	if k := images.KubeVirt; k != nil {
		image := k.DigestRef
		if image == "" {
			image = k.Image
		}
		all = append(all, Entry{Arch: arch, Platform: "kubevirt", Release: k.Release, Image: image, Path: join(at, "kubevirt")})
	}
	objects("powervs", images.PowerVS)
	return all
}

func appendExtensions(all []Entry, arch, at string, x *rhcos.Extensions) []Entry {
	if x.AwsWinLi != nil {
		for _, region := range slices.Sorted(maps.Keys(x.AwsWinLi.Regions)) {
			r := x.AwsWinLi.Regions[region]
			all = append(all, Entry{
				Arch: arch, Platform: "aws-winli", Region: region, Release: r.Release, Image: r.Image,
				Path: join(join(join(at, "aws-winli"), "regions"), region),
			})
		}
	}
	if d := x.AzureDisk; d != nil {
		all = append(all, Entry{Arch: arch, Platform: "azure-disk", Release: d.Release, URL: d.URL, Path: join(at, "azure-disk")})
	}
	if x.Marketplace == nil || x.Marketplace.Azure == nil {
		return all
	}
	m := x.Marketplace.Azure
	for _, offer := range []struct {
		name   string
		images *rhcos.AzureMarketplaceImages
	}{
		{"no-purchase-plan", m.NoPurchasePlan},
		{"ocp", m.OCP}, {"ocp-emea", m.OCPEMEA}, {"oke", m.OKE}, {"oke-emea", m.OKEEMEA}, {"opp", m.OPP}, {"opp-emea", m.OPPEMEA},
	} {
		if offer.images == nil {
			continue
		}
		for _, gen := range []struct {
			name  string
			image *rhcos.AzureMarketplaceImage
		}{{"hyperVGen1", offer.images.Gen1}, {"hyperVGen2", offer.images.Gen2}} {
			if gen.image == nil {
				continue
			}
			all = append(all, Entry{
				Arch: arch, Platform: "azure-marketplace", Format: offer.name + "/" + gen.name, Release: gen.image.Version, Image: gen.image.URN(),
				Path: join(join(join(join(at, "marketplace"), "azure"), offer.name), gen.name),
			})
		}
	}
	return all
}
