package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io/fs"
	"strings"
)

// powerVSCapacity is what coreos-assembler's descriptor says that a disk may grow to,
// bytes.
const powerVSCapacity = 120 << 30

// powerVS is coreos-assembler's descriptor for PowerVC.
const powerVS = `<?xml version="1.0" encoding="UTF-8"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <ovf:References>
    <ovf:File href="{image}-disk.raw" id="file1" size="{image_size}"/>
  </ovf:References>
  <ovf:DiskSection>
    <ovf:Info>Disk Section</ovf:Info>
    <ovf:Disk capacity="{capacity}" capacityAllocationUnits="byte" diskId="disk1" fileRef="file1"/>
  </ovf:DiskSection>
  <ovf:VirtualSystemCollection>
    <ovf:VirtualSystem ovf:id="vs0">
      <ovf:Name>{image}</ovf:Name>
      <ovf:Info></ovf:Info>
      <ovf:ProductSection>
        <ovf:Info/>
        <ovf:Product/>
      </ovf:ProductSection>
      <ovf:OperatingSystemSection ovf:id="80">
        <ovf:Info/>
        <ovf:Description>{image_description}</ovf:Description>
        <ns0:architecture xmlns:ns0="ibmpvc">ppc64le</ns0:architecture>
      </ovf:OperatingSystemSection>
      <ovf:VirtualHardwareSection>
        <ovf:Info>Storage resources</ovf:Info>
        <ovf:Item>
          <rasd:Description>Temporary clone for export</rasd:Description>
          <rasd:ElementName>{image}-disk.raw</rasd:ElementName>
          <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource>
          <rasd:InstanceID>1</rasd:InstanceID>
          <rasd:ResourceType>17</rasd:ResourceType>
          <ns1:boot xmlns:ns1="ibmpvc">True</ns1:boot>
        </ovf:Item>
      </ovf:VirtualHardwareSection>
    </ovf:VirtualSystem>
    <ovf:Info/>
    <ovf:Name>{image}</ovf:Name>
  </ovf:VirtualSystemCollection>
</ovf:Envelope>
`

// image is what PowerVC calls the image: NAME-VERSION.
func (o *OVF) image() string {
	name := o.Name
	if name == "" {
		name = "coreos"
	}
	if o.Version != "" {
		name += "-" + o.Version
	}
	return name
}

// powerVS gives the descriptor of a raw disk.
func (o *OVF) powerVS(size int64) []byte {
	escape := func(text string) string {
		var b bytes.Buffer
		_ = xml.EscapeText(&b, []byte(text)) // a Buffer takes everything
		return b.String()
	}
	description := o.Product
	if description == "" {
		description = o.image()
	}
	return []byte(strings.NewReplacer(
		"{image}", escape(o.image()), "{image_description}", escape(description),
		"{image_size}", fmt.Sprint(size), "{capacity}", fmt.Sprint(max(size, powerVSCapacity)),
	).Replace(powerVS))
}

// powerVSSink writes a tar archive of a descriptor and the raw disk, with holes.
type powerVSSink struct{ rawSink }

func newPowerVSSink(f *output, size int64, ovf *OVF) (*powerVSSink, error) {
	if image := ovf.image(); len(image) > 80 || strings.ContainsAny(image, "/\\") || strings.HasPrefix(image, ".") {
		return nil, fmt.Errorf("%.100q is no name of a file in an archive: %w", image, fs.ErrInvalid)
	}
	text := ovf.powerVS(size)
	var head []byte
	for _, member := range []struct {
		name string
		size int64
		data []byte
	}{{"coreos.ovf", int64(len(text)), text}, {ovf.image() + "-disk.raw", size, nil}} {
		h, err := tarHeader(tar.Header{Typeflag: tar.TypeReg, Name: member.name, Size: member.size, Mode: 0o644})
		if err != nil {
			return nil, err
		}
		head = append(append(head, h...), member.data...)
		head = append(head, make([]byte, -len(head)&(tarBlock-1))...)
	}
	_, err := f.WriteAt(head, 0)
	return &powerVSSink{rawSink{f: f, size: size, base: int64(len(head))}}, err
}

func (s *powerVSSink) finish(context.Context, [32]byte) (int64, error) {
	at := s.base + s.size // a disk has whole sectors
	end := tarEnd(at)
	_, err := s.f.WriteAt(end, at)
	return at + int64(len(end)), err
}
