package nomadtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// versionOf is what the builtin driver finds in the first line of --version.
var versionOf = regexp.MustCompile(`^\d[.\d]+$`)

// newQemuClient has the plugin under the name of Nomad's builtin driver as well.
func newQemuClient(t *testing.T) *client {
	c := newClientWith(t, "nomad-driver-qmp", "qemu")
	eventually(t, 30*time.Second, "the driver qemu", func() error {
		node, _, err := c.api.Nodes().Info(c.node, nil)
		if err != nil {
			return err
		}
		if driver := node.Drivers["qemu"]; driver == nil || !driver.Healthy {
			return fmt.Errorf("%+v", driver)
		}
		return nil
	})
	return c
}

// qemuJob is a job for the builtin driver; the parts given go into the group, task and config blocks.
func (c *client) qemuJob(name, group, task, config string, memory int) *job {
	id := c.name + "-" + name
	return &job{c: c, id: id, text: fmt.Sprintf(`
job %q {
  datacenters = [%q]
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    %s
    task "vm" {
      driver = "qemu"
      %s
      config {
        %s
      }
      resources {
        cpu    = 50
        memory = %d
      }
    }
  }
}
`, id, c.name, group, task, config, memory)}
}

// record is what the driver has written down of its one VM.
func (c *client) record() string {
	paths, err := filepath.Glob(c.dir + "/data/vms/*/vm.json")
	must.NoError(c.t, err)
	must.SliceLen(c.t, 1, paths)
	data, err := os.ReadFile(paths[0])
	must.NoError(c.t, err)
	return string(data)
}

// V-136: under the name qemu the driver takes the place of Nomad's builtin one: its attributes are on the node, and a job of its documentation boots from the disk and the machine that it had there.
func TestV136_TakesTheBuiltinDriversPlace(t *testing.T) {
	c := newQemuClient(t)
	node, _, err := c.api.Nodes().Info(c.node, nil)
	must.NoError(t, err)
	must.Eq(t, "1", node.Attributes["driver.qemu"])
	must.RegexMatch(t, versionOf, node.Attributes["driver.qemu.version"])
	must.StrContains(t, node.Attributes["driver.qemu.emulators"], "x86_64")
	must.NotEq(t, "", node.Attributes["driver.virt.emulator.version"])

	job := c.qemuJob("documented", `
    constraint {
      attribute = "${attr.driver.qemu.version}"
      operator  = "version"
      value     = ">= 2.0"
    }`, "kill_timeout = \"20s\"", fmt.Sprintf(`
        image_path        = %q
        accelerator       = "tcg"
        graceful_shutdown = true
        guest_agent       = true`, sectorImage(t, obedient)), 128).run()
	job.becomes("running", 60*time.Second)
	job.says("GUEST-TICK")
	must.StrContains(t, c.record(), `"machine": "pc-i440fx`)
	job.stop()
	done := job.becomes("complete", 60*time.Second)
	must.False(t, done.TaskStates["vm"].Failed)
	must.StrContains(t, job.story(), "Guest powered off")
}
