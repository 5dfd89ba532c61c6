package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Address is the machine as pods and tests see it: the address of the bridge, and
// the first of the services' addresses, which is that of the API server.
const Address = "10.97.0.1"

const (
	bridgeName  = "cni0"
	bridgeMask  = "255.255.0.0"
	serviceCIDR = "10.97.0.0/24"
	cniPlugins  = "/usr/lib/cni"
)

// cniConfig puts pods on the bridge, outside of the range of services. There is
// no way out of the namespace.
const cniConfig = `{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": "` + bridgeName + `", "isGateway": true, "ipMasq": false, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "` + runFolder + `/addresses",
    "ranges": [[{"subnet": "10.97.0.0/16", "rangeStart": "10.97.1.1", "rangeEnd": "10.97.9.250", "gateway": "` + Address + `"}]],
    "routes": [{"dst": "0.0.0.0/0"}]}
}]}
`

// prepareNetwork brings the loopback interface up and makes the bridge, which
// is there before the first pod so that servers can have its address.
func prepareNetwork() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer unix.Close(socket)
	name, err := unix.BytePtrFromString(bridgeName)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCBRADDBR, uintptr(unsafe.Pointer(name))); errno != 0 {
		return fmt.Errorf("network: make the bridge: %w", errno)
	}
	for _, set := range []struct {
		op      uint
		address string
	}{{unix.SIOCSIFADDR, Address}, {unix.SIOCSIFNETMASK, bridgeMask}} {
		request, err := unix.NewIfreq(bridgeName)
		if err != nil {
			return err
		}
		if err := request.SetInet4Addr(net.ParseIP(set.address).To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(socket, set.op, request); err != nil {
			return fmt.Errorf("network: address of the bridge: %w", err)
		}
	}
	for _, name := range []string{"lo", bridgeName} {
		request, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
			return fmt.Errorf("network: %s: %w", name, err)
		}
	}
	forward := filepath.Join("/proc/sys/net/ipv4", "ip_forward")
	return os.WriteFile(forward, []byte("1\n"), 0o644)
}
