package nomadtest

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// guest6 is the address of the first guest in a group's network, as the guest itself has it.
const guest6 = "fde5:4a95:8da2::2"

// hostAddress6 is an address of the host that ports are published at, beside 192.0.2.2.
const hostAddress6 = "2001:db8:2::2"

func onHost6(port int) string { return net.JoinHostPort(hostAddress6, fmt.Sprint(port)) }

// newSixClient is an agent whose groups have networks of both families.
func newSixClient(t testing.TB) *client {
	t.Helper()
	c := newGroupClientIn(t, families{six: true})
	output, err := exec.Command("ip", "addr", "add", hostAddress6+"/64", "dev", "uplink0", "nodad").CombinedOutput()
	must.NoError(t, err, must.Sprint(string(output)))
	t.Cleanup(func() { _ = exec.Command("ip", "addr", "del", hostAddress6+"/64", "dev", "uplink0").Run() })
	return c
}

// V-125 V-126: a VM in a group with mode = "bridge" and IPv6 (bridge_network_subnet_ipv6), beside a task of another driver, through restarts of plugin and agent.
func TestV125_BridgeModeSix(t *testing.T) {
	c := newSixClient(t)
	if nomadMinor(t) < 10 {
		cniOfBothFamilies(t, c)
		t.Skip("address_mode = \"alloc_ipv6\" needs Nomad 1.10")
	}
	job := c.groupJob("six", fmt.Sprintf(`network {
		mode = "bridge"
		port "http" {
			static = 18089
			to     = 80
		}
		port "echo" { to = 7777 }
		port "sibling" { to = 9000 }
		dns {
			servers = ["2001:db8:2::53"]
		}
	}
	service {
		provider     = "nomad"
		name         = "%[1]s-alloc"
		port         = "http"
		address_mode = "alloc"
	}
	service {
		provider     = "nomad"
		name         = "%[1]s-alloc6"
		port         = "http"
		address_mode = "alloc_ipv6"
	}`, c.name), `network_interface {
			group { ports = ["http", "echo"] }
		}`)
	job.text = strings.Replace(job.text, `"9000", "sibling", "0.0.0.0"`, `"9000", "sibling", "::"`, 1)
	job.run()
	stub := job.becomes("running", 60*time.Second)
	job.says("TINY-READY")
	ports := job.hostPorts()

	t.Run("published ports over both families: TCP and UDP, static and dynamic", func(t *testing.T) {
		for _, on := range []func(int) string{onHost, onHost6} {
			must.StrContains(t, page(t, on(18089), 20*time.Second), "hello from nomad-vm-")
			echoed(t, on(ports["echo"]))
		}
	})
	t.Run("a sibling keeps its port", func(t *testing.T) {
		must.StrContains(t, page(t, onHost6(ports["sibling"]), 10*time.Second), "sibling saw")
	})
	alloc6 := c.service(c.name + "-alloc6")
	t.Run("services are registered where they are reached", func(t *testing.T) {
		must.StrHasPrefix(t, "fd98:", alloc6.Address)
		must.Eq(t, 80, alloc6.Port)
		must.StrHasPrefix(t, "10.98.", c.service(c.name+"-alloc").Address)
		for _, name := range []string{"-alloc", "-alloc6"} {
			must.StrContains(t, page(t, c.addressOf(c.name+name), 5*time.Second), "hello from")
		}
	})
	t.Run("a sibling reaches the guest at the allocation's address and at its own", func(t *testing.T) {
		for _, at := range []string{alloc6.Address, guest6} {
			must.StrContains(t, inGroup(t, stub.ID, "tcp", at, "80"), "hello from")
			must.StrContains(t, inGroup(t, stub.ID, "udp", at, "7777"), "?")
		}
	})
	t.Run("the guest reaches its siblings where its environment says, and the host with the allocation's address", func(t *testing.T) {
		must.StrContains(t, job.inGuest(stub, "wget -qO- http://[$VIRT_GROUP_IP6]:9000/"), "sibling saw "+guest6)
		node, program := peerProgram(t)
		server := exec.Command(node, program, "serve", "17018", "host", "::")
		must.NoError(t, server.Start())
		defer func() {
			_ = server.Process.Kill()
			_ = server.Wait()
		}()
		seen := job.inGuest(stub, "wget -qO- http://["+hostAddress6+"]:17018/")
		must.Eq(t, "host saw "+alloc6.Address, strings.TrimSpace(seen))
	})
	t.Run("the address, the name server and the variable are in the guest's seed", func(t *testing.T) {
		network := page(t, onHost6(18089)+"/cidata/network-config", 5*time.Second)
		must.StrContains(t, network, guest6)
		must.StrContains(t, network, "2001:db8:2::53")
		must.StrContains(t, page(t, onHost6(18089)+"/cidata/user-data", 5*time.Second)+
			page(t, onHost6(18089)+"/cidata/vendor-data", 5*time.Second), "VIRT_GROUP_IP6")
	})
	machine := c.emulator()
	t.Run("restarts of plugin and agent change nothing, and flushed rules come back", func(t *testing.T) {
		c.plugin().signal(t, syscall.SIGKILL)
		must.StrContains(t, page(t, onHost6(18089), time.Second), "hello from")
		job.inGuest(stub, "true")
		// Not killed: Nomad writes down an allocation's network when it stops, and once a minute.
		c.end(syscall.SIGINT)
		must.StrContains(t, page(t, onHost6(18089), time.Second), "hello from")
		c.begin()
		c.ready()
		must.StrContains(t, page(t, onHost6(18089), time.Second), "hello from")
		job.inGuest(stub, "true")
		must.NoError(t, exec.Command("ip", "netns", "exec", stub.ID, "nft", "flush", "ruleset").Run())
		c.plugin().signal(t, syscall.SIGKILL)
		must.StrContains(t, page(t, onHost6(18089), 20*time.Second), "hello from")
		must.Eq(t, machine, c.emulator())
	})
	t.Run("a stop leaves no namespace", func(t *testing.T) {
		job.stop()
		job.becomes("complete", 30*time.Second)
		gone(t, stub.ID)
	})
	cniOfBothFamilies(t, c)
}

// cniOfBothFamilies is what each Nomad can do.
func cniOfBothFamilies(t *testing.T, c *client) {
	t.Run("a CNI network with ranges of both families", func(t *testing.T) {
		job := c.newJob("cnisix", jobParts{image: tinyImage(t), memory: 160, group: `network {
			mode = "cni/tests"
			port "http" { to = 80 }
		}`}).run()
		stub := job.becomes("running", 60*time.Second)
		job.says("TINY-READY")
		for _, on := range []func(int) string{onHost, onHost6} {
			must.StrContains(t, page(t, on(job.hostPorts()["http"]), 20*time.Second), "hello from")
		}
		must.StrContains(t, page(t, onHost6(job.hostPorts()["http"])+"/cidata/network-config", 5*time.Second), guest6)
		job.stop()
		job.becomes("complete", 30*time.Second)
		gone(t, stub.ID)
	})
}
