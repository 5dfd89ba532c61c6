package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
)

// OVF is what the descriptor of an OVA says of the machine.
type OVF struct {
	// Template is a descriptor in which {vmdk_size} and {vmdk_capacity} stand for the size of
	// the VMDK and of its disk in bytes, as in those of coreos-assembler. The file is
	// named disk.vmdk. With a template, the other fields are not used; it has at most
	// 1 MiB. Default: one for VMware with the other fields in it.
	Template string

	Name     string // of the machine. Default: coreos
	OSType   string // VMware's name of the system. Default: rhel9_64Guest
	Hardware string // VMware's name of the hardware version. Default: vmx-17
	CPUs     int    // Default: 2
	MemoryMB int    // Default: 4096
	Product  string // Default: Name
	Vendor   string // Default: none
	Version  string // of the product. Default: none
	// SecureBoot says that firmware only boots what is signed.
	SecureBoot bool
}

// maxOVF is the size of the largest descriptor, bytes.
const maxOVF = 1 << 20

func (o *OVF) check() error {
	switch {
	case len(o.Template) > maxOVF:
		return fmt.Errorf("an OVF template of %d bytes, of at most %d: %w", len(o.Template), maxOVF, fs.ErrInvalid)
	case o.Template != "" && (!strings.Contains(o.Template, "{vmdk_size}") || !strings.Contains(o.Template, "disk.vmdk")):
		return fmt.Errorf("an OVF template without {vmdk_size} or disk.vmdk: %w", fs.ErrInvalid)
	case o.CPUs < 0 || o.CPUs > 1024 || o.MemoryMB < 0 || o.MemoryMB > 1<<24:
		return fmt.Errorf("%d processors, %d MB: %w", o.CPUs, o.MemoryMB, fs.ErrInvalid)
	}
	return nil
}

// render gives the descriptor of a VMDK.
func (o *OVF) render(size, capacity int64) []byte {
	template := o.Template
	if template == "" {
		template = o.standard()
	}
	return []byte(strings.NewReplacer("{vmdk_size}", strconv.FormatInt(size, 10), "{vmdk_capacity}", strconv.FormatInt(capacity, 10)).Replace(template))
}

// standard is a descriptor by the DMTF's DSP0243 1.1, with what VMware adds.
func (o *OVF) standard() string {
	text := func(value, otherwise string) string {
		if value == "" {
			value = otherwise
		}
		var b bytes.Buffer
		_ = xml.EscapeText(&b, []byte(value)) // a Buffer takes everything
		// Braces would be taken for sizes.
		return strings.NewReplacer("{", "&#123;", "}", "&#125;").Replace(b.String())
	}
	number := func(n, otherwise int) string {
		if n == 0 {
			n = otherwise
		}
		return strconv.Itoa(n)
	}
	var items strings.Builder
	item := func(id int, kind, name string, more ...string) {
		fmt.Fprintf(&items, "      <Item>\n        <rasd:ElementName>%s</rasd:ElementName>\n        <rasd:InstanceID>%d</rasd:InstanceID>\n        <rasd:ResourceType>%s</rasd:ResourceType>\n", name, id, kind)
		for i := 0; i < len(more); i += 2 {
			fmt.Fprintf(&items, "        <rasd:%s>%s</rasd:%[1]s>\n", more[i], more[i+1])
		}
		items.WriteString("      </Item>\n")
	}
	item(1, "3", "processors", "VirtualQuantity", number(o.CPUs, 2))
	item(2, "4", "memory", "AllocationUnits", "byte * 2^20", "VirtualQuantity", number(o.MemoryMB, 4096))
	item(3, "6", "SCSI controller 0", "Address", "0", "ResourceSubType", "VirtualSCSI")
	item(4, "17", "disk 1", "AddressOnParent", "0", "HostResource", "ovf:/disk/vmdisk1", "Parent", "3")
	item(5, "10", "network adapter 1", "AutomaticAllocation", "true", "Connection", "VM Network", "ResourceSubType", "VmxNet3")
	name := text(o.Name, "coreos")
	properties := ""
	for _, key := range []string{"guestinfo.ignition.config.data", "guestinfo.ignition.config.data.encoding"} {
		properties += `      <Property ovf:key="` + key + `" ovf:type="string" ovf:userConfigurable="true" ovf:value=""/>` + "\n"
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:href="disk.vmdk" ovf:id="file1" ovf:size="{vmdk_size}"/>
  </References>
  <DiskSection>
    <Info>disks</Info>
    <Disk ovf:capacity="{vmdk_capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" ovf:populatedSize="{vmdk_size}"/>
  </DiskSection>
  <NetworkSection>
    <Info>networks</Info>
    <Network ovf:name="VM Network">
      <Description>VM Network</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="` + name + `">
    <Info>virtual machine</Info>
    <Name>` + name + `</Name>
    <OperatingSystemSection ovf:id="100" vmw:osType="` + text(o.OSType, "rhel9_64Guest") + `">
      <Info>operating system</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection ovf:transport="com.vmware.guestInfo">
      <Info>hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>` + name + `</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>` + text(o.Hardware, "vmx-17") + `</vssd:VirtualSystemType>
      </System>
` + items.String() + `      <vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="` + strconv.FormatBool(o.SecureBoot) + `"/>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
    <ProductSection>
      <Info>product</Info>
      <Product>` + text(o.Product, o.Name) + `</Product>
      <Vendor>` + text(o.Vendor, "") + `</Vendor>
      <Version>` + text(o.Version, "") + `</Version>
` + properties + `    </ProductSection>
  </VirtualSystem>
</Envelope>
`
}

// ovaSink writes a tar archive of a descriptor and the VMDK that it describes. The
// descriptor is first and has the VMDK's size, so room is left for the longest number.
type ovaSink struct {
	*vmdkSink
	ovf  *OVF
	room int64 // bytes of the descriptor, filled with empty lines
}

func newOVASink(f *output, size int64, ovf *OVF) *ovaSink {
	room := int64(len(ovf.render(math.MaxInt64, size)))
	base := tarBlock + (room+tarBlock-1)/tarBlock*tarBlock + tarBlock
	return &ovaSink{newVMDKSink(f, base, size), ovf, room}
}

func (s *ovaSink) finish(ctx context.Context, id [32]byte) (int64, error) {
	size, err := s.vmdkSink.finish(ctx, id)
	if err != nil {
		return 0, err
	}
	text := s.ovf.render(size, s.size)
	text = append(text, bytes.Repeat([]byte("\n"), int(s.room)-len(text))...)
	head := make([]byte, 0, s.base)
	for _, member := range []struct {
		name string
		size int64
		data []byte
	}{{"coreos.ovf", s.room, text}, {"disk.vmdk", size, nil}} {
		h, err := tarHeader(tar.Header{Typeflag: tar.TypeReg, Name: member.name, Size: member.size, Mode: 0o644})
		if err != nil {
			return 0, err
		}
		head = append(append(head, h...), member.data...)
		head = append(head, make([]byte, -len(head)&(tarBlock-1))...)
	}
	if _, err := s.f.WriteAt(head, 0); err != nil {
		return 0, err
	}
	end := tarEnd(s.base + size) // a VMDK has whole sectors
	_, err = s.f.WriteAt(end, s.base+size)
	return s.base + size + int64(len(end)), err
}
