package nomadtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// tinyImage is a small Linux that serves its files by http on port 80 and echoes datagrams on port 7777.
func tinyImage(t testing.TB) string {
	path := os.Getenv("QMP_TINY_IMAGE")
	if path == "" {
		t.Skip("the tiny guest could not be built on this host")
	}
	return path
}

// tinyJob has two mapped ports, a file that a template wrote, and a service with the address of the guest.
func (c *client) tinyJob(name string, extra string) *job {
	return c.newJob(name, jobParts{
		image:  tinyImage(c.t),
		memory: 160,
		group: `network {
			port "http" { to = 80 }
			port "echo" { to = 7777 }
		}`,
		task: fmt.Sprintf(`
			template {
				data        = "written for {{ env \"NOMAD_JOB_NAME\" }}\n"
				destination = "local/page.txt"
			}
			service {
				provider     = "nomad"
				name         = "%s-%s"
				port         = "http"
				address_mode = "driver"
			}
			service {
				provider = "nomad"
				name     = "%s-%s-out"
				port     = "http"
			}`, c.name, name, c.name, name),
		config: fmt.Sprintf(`network_interface {
			bridge {
				name  = %q
				ports = ["http", "echo"]
			}
		}
		%s`, c.bridge, extra),
	})
}

// hostPorts are the ports that Nomad chose for the newest allocation, by label.
func (j *job) hostPorts() map[string]int {
	j.c.t.Helper()
	alloc, _, err := j.c.api.Allocations().Info(j.allocs()[0].ID, nil)
	must.NoError(j.c.t, err)
	ports := map[string]int{}
	for _, port := range alloc.AllocatedResources.Shared.Ports {
		ports[port.Label] = port.Value
	}
	return ports
}

// service is the one instance that is registered under a name.
func (c *client) service(name string) *api.ServiceRegistration {
	c.t.Helper()
	var found []*api.ServiceRegistration
	eventually(c.t, 10*time.Second, "service "+name, func() error {
		var err error
		found, _, err = c.api.Services().Get(name, nil)
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("there are %d", len(found))
		}
		return err
	})
	return found[0]
}

// page asks for a page until it is served.
func page(t testing.TB, address string, limit time.Duration) string {
	t.Helper()
	var body string
	// Without keep-alive: each question is a connection of its own, for the guest may be another one by then.
	asker := &http.Client{Timeout: patient(3 * time.Second), Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, limit, "http://"+address, func() error {
		answer, err := asker.Get("http://" + address)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		data, err := io.ReadAll(answer.Body)
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", answer.Status)
		}
		body = string(data)
		return nil
	})
	return body
}

// echoed sends a datagram until it comes back.
func echoed(t testing.TB, address string) {
	t.Helper()
	eventually(t, 10*time.Second, "echo of "+address, func() error {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("ping")); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(patient(time.Second)))
		answer := make([]byte, 16)
		n, err := conn.Read(answer)
		if err == nil && string(answer[:n]) != "ping" {
			err = fmt.Errorf("it says %q", answer[:n])
		}
		return err
	})
}

// onHost is a port of the host as others see it; scripts/isolated.sh gives it its address.
func onHost(port int) string { return net.JoinHostPort("192.0.2.2", fmt.Sprint(port)) }

// nearNetwork is the alias of a network of the host, of a client's configuration. With one, Nomad itself publishes no port of a
// group at 127.0.0.1 that is of none.
const nearNetwork = `host_network "near" {
	cidr = "127.0.0.0/8"
}
`

// nearPort is a port of that network, of which onlyNear says whether it is open there and nowhere else.
const nearPort = `port "near" {
	to           = 80
	host_network = "near"
}
`

func metricsSocket(c *client) string { return c.dir + "/metrics.sock" }

// scraped waits until the plugin's metrics have the processor time of the job's VM.
func scraped(t testing.TB, c *client, job *job) {
	t.Helper()
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", metricsSocket(c)) }
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	eventually(t, 20*time.Second, "figures of the VM", func() error {
		response, err := client.Get("http://plugin/metrics")
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, "nomad_vm_cpu_seconds_total{") && strings.Contains(line, `job="`+job.id+`"`) {
				must.StrHasSuffix(t, "# EOF\n", string(text))
				return nil
			}
		}
		return fmt.Errorf("none of the job %s:\n%s", job.id, text)
	})
}

// The same at ::1, which br_netfilter keeps replies from.
const nearNetwork6 = `host_network "near6" {
	cidr = "::1/128"
}
`

const nearPort6 = `port "near6" {
	to           = 80
	host_network = "near6"
}
`

const bridgeNetfilter6 = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"

func onlyNear(t testing.TB, port int) {
	t.Helper()
	must.StrContains(t, page(t, fmt.Sprintf("127.0.0.1:%d", port), 20*time.Second), "hello from nomad-vm-")
	conn, err := net.DialTimeout("tcp", onHost(port), patient(3*time.Second))
	if err == nil {
		_ = conn.Close()
	}
	must.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// A guest with a network: its page is served through the mapped ports, through crashes of plugin and agent, until it stops.
func TestPortsOfAGuest(t *testing.T) {
	c := newClientPrepared(t, func(c *client) {
		c.more = c.dir + "/near.hcl"
		config, err := os.ReadFile(c.config)
		must.NoError(t, err)
		metrics := fmt.Sprintf("metrics {\n listen = \"unix:%s\"\n}\nlimits {", metricsSocket(c))
		must.NoError(t, os.WriteFile(c.config, []byte(strings.Replace(string(config), "limits {", metrics, 1)), 0o600))
		must.NoError(t, os.WriteFile(c.more, []byte("client {\n"+nearNetwork+nearNetwork6+"}\n"), 0o600))
		if _, err := os.Stat(bridgeNetfilter6); err == nil {
			must.NoError(t, os.WriteFile(bridgeNetfilter6, []byte("0"), 0o600))
		}
	}, "nomad-driver-qmp")
	job := c.tinyJob("web", "user_data = \"#!/bin/sh\\necho USER-DATA-RAN\\n\"")
	job.text = strings.Replace(job.text, "network {", "network {\n"+nearPort+nearPort6, 1)
	job.text = strings.Replace(job.text, `["http", "echo"]`, `["http", "echo", "near", "near6"]`, 1)
	job.run()
	job.becomes("running", 60*time.Second)
	job.says("TINY-READY")
	ports := job.hostPorts()
	outside := onHost(ports["http"])

	t.Run("TCP", func(t *testing.T) {
		must.StrContains(t, page(t, outside, 20*time.Second), "hello from nomad-vm-")
	})
	t.Run("UDP", func(t *testing.T) {
		echoed(t, onHost(ports["echo"]))
	})
	t.Run("a port of a host_network is open there only", func(t *testing.T) { onlyNear(t, ports["near"]) })
	t.Run("also at ::1", func(t *testing.T) {
		near6 := net.JoinHostPort("::1", fmt.Sprint(ports["near6"]))
		must.StrContains(t, page(t, near6, 20*time.Second), "hello from nomad-vm-")
	})
	t.Run("user data ran", func(t *testing.T) {
		must.StrContains(t, job.logs("stdout"), "USER-DATA-RAN")
	})
	t.Run("what a template wrote is in the guest's /local", func(t *testing.T) {
		must.Eq(t, "written for "+job.id+"\n", page(t, outside+"/local/page.txt", 10*time.Second))
	})
	t.Run("V-146 V-122 D17: a service has the address it asks for, the host's unless it says otherwise", func(t *testing.T) {
		own := c.service(c.name + "-web")
		must.StrHasPrefix(t, "10.99.", own.Address)
		must.Eq(t, 80, own.Port)
		out := c.service(c.name + "-web-out")
		must.Eq(t, job.hostPorts()["http"], out.Port)
		for _, found := range []*api.ServiceRegistration{own, out} {
			address := net.JoinHostPort(found.Address, fmt.Sprint(found.Port))
			must.StrContains(t, page(t, address, 5*time.Second), "hello from")
		}
	})
	t.Run("V-103: the figures of its VM can be scraped", func(t *testing.T) { scraped(t, c, job) })
	machine := c.emulator()
	t.Run("P-37: the page is there while and after the plugin is killed", func(t *testing.T) {
		c.plugin().signal(t, syscall.SIGKILL)
		must.StrContains(t, page(t, outside, time.Second), "hello from")
		time.Sleep(2 * time.Second)
		must.StrContains(t, page(t, outside, time.Second), "hello from")
		scraped(t, c, job)
	})
	t.Run("P-38: and while and after the agent is killed", func(t *testing.T) {
		c.end(syscall.SIGKILL)
		must.StrContains(t, page(t, outside, time.Second), "hello from")
		c.begin()
		c.ready()
		must.StrContains(t, page(t, outside, time.Second), "hello from")
		must.Eq(t, machine, c.emulator())
	})
	t.Run("a stop closes the ports and takes link and rules away", func(t *testing.T) {
		job.stop()
		job.becomes("complete", 20*time.Second)
		job.says("GUEST-POWEROFF")
		eventually(t, 5*time.Second, "a closed port", func() error {
			conn, err := net.DialTimeout("tcp", outside, patient(time.Second))
			if err == nil {
				_ = conn.Close()
				return fmt.Errorf("it is open")
			}
			return nil
		})
		rules, _ := exec.Command("nft", "list", "ruleset").CombinedOutput()
		must.StrNotContains(t, string(rules), fmt.Sprint(ports["http"]))
		// An error when the bridge itself is gone, which is as good.
		links, _ := exec.Command("ip", "-o", "link", "show", "master", c.bridge).Output()
		must.Eq(t, "", strings.TrimSpace(string(links)), must.Sprint("links on the bridge"))
	})
}

// V-112: two jobs want the same static port: Nomad places only one on a node, and the second gets it when the first is gone. One that
// another agent of the host publishes is reported before the VM starts.
func TestStaticPortIsFreeAgain(t *testing.T) {
	c := newClient(t)
	static := func(name string) *job {
		job := c.tinyJob(name, "")
		job.text = strings.Replace(job.text, `port "http" { to = 80 }`, "port \"http\" {\n static = 18080\n to = 80\n }", 1)
		return job.run()
	}
	for _, name := range []string{"first", "second"} {
		job := static(name)
		job.becomes("running", 60*time.Second)
		must.StrContains(t, page(t, onHost(18080), 60*time.Second), "hello from nomad-vm-")
		job.stop()
		job.becomes("complete", 20*time.Second)
	}
	const theirs = "inet nomad_driver_qmp_0123abcd"
	table := "table " + theirs + ` { map published_everywhere {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 18080 : 10.1.2.3 . 80 }
	}; }`
	must.NoError(t, exec.Command("nft", table).Run())
	defer func() { _ = exec.Command("nft", "delete table "+theirs).Run() }()
	taken := static("taken")
	taken.becomes("failed", 20*time.Second)
	must.StrContains(t, taken.story(), "port http on 192.0.2.2:18080 can't be mapped: chain "+theirs+" arriving of nftables leads it elsewhere")
	must.StrNotContains(t, taken.story(), "Guest started")
}

// Two guests on one bridge have addresses of their own.
func TestTwoGuestsOnOneBridge(t *testing.T) {
	c := newClient(t)
	job := c.tinyJob("pair", "")
	job.text = strings.Replace(job.text, "count = 1", "count = 2", 1)
	job.run()
	addresses := map[string]bool{}
	eventually(t, 90*time.Second, "two services", func() error {
		found, _, err := c.api.Services().Get(c.name+"-pair", nil)
		if err != nil {
			return err
		}
		if len(found) != 2 {
			return fmt.Errorf("there are %d", len(found))
		}
		for _, service := range found {
			addresses[service.Address] = true
		}
		return nil
	})
	must.MapLen(t, 2, addresses)
	for address := range addresses {
		must.StrContains(t, page(t, address+":80", 60*time.Second), "hello from")
	}
}
