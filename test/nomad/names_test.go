package nomadtest

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// V-1: one file under two names serves the jobs of both, on one bridge and with one data_dir; a crash of one process leaves the other's VM alone.
func TestV1_TwoNames(t *testing.T) {
	c := newClientWith(t, "nomad-driver-qmp", "nomad-driver-virt")
	eventually(t, 30*time.Second, "both drivers", func() error {
		node, _, err := c.api.Nodes().Info(c.node, nil)
		if err != nil {
			return err
		}
		for _, name := range []string{"virt", "nomad-driver-virt"} {
			if driver := node.Drivers[name]; driver == nil || !driver.Healthy {
				return fmt.Errorf("%s: %+v", name, driver)
			}
		}
		for _, attribute := range []string{"driver.virt", "driver.nomad-driver-virt", "driver.virt.emulator.version"} {
			if node.Attributes[attribute] == "" {
				return fmt.Errorf("no %s in %v", attribute, node.Attributes)
			}
		}
		return nil
	})
	later := c.tinyJob("later", "").run()
	first := c.tinyJob("first", "")
	first.text = strings.Replace(first.text, `driver = "virt"`, `driver = "nomad-driver-virt"`, 1)
	first.run()
	for _, job := range []*job{later, first} {
		job.becomes("running", 60*time.Second)
		job.says("TINY-READY")
	}
	answers := func() {
		t.Helper()
		for _, job := range []*job{later, first} {
			page(t, onHost(job.hostPorts()["http"]), 20*time.Second)
		}
	}
	answers()
	machines := emulators(c.dir)
	must.SliceLen(t, 2, machines)
	for _, name := range []string{"nomad-driver-qmp", "nomad-driver-virt"} {
		path := c.dir + "/plugins/" + name
		found := processesWith(path)
		must.SliceLen(t, 1, found)
		found[0].signal(t, syscall.SIGKILL)
		eventually(t, 10*time.Second, "another "+name, func() error {
			if now := processesWith(path); len(now) != 1 || now[0] == found[0] {
				return fmt.Errorf("%v", now)
			}
			return nil
		})
		answers()
	}
	must.Eq(t, machines, emulators(c.dir))
	first.stop()
	first.becomes("complete", 60*time.Second)
	page(t, onHost(later.hostPorts()["http"]), 20*time.Second)
	must.SliceLen(t, 1, emulators(c.dir))
}
