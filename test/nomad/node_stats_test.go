package nomadtest

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// The directories that a VM shares, its own and those of host volumes, are no disks of the node.
func TestNodeStats_NoMountsOfVMsAmongTheDisks(t *testing.T) {
	c := newClient(t)
	volume := func(name, destination string, readOnly string) (string, string) {
		return `volume "` + name + `" {
			type      = "host"
			source    = "shared"
			read_only = ` + readOnly + `
		}
		`, `volume_mount {
			volume      = "` + name + `"
			destination = "` + destination + `"
		}
		`
	}
	writableGroup, writableTask := volume("writable", "/writable", "false")
	closedGroup, closedTask := volume("closed", "/closed", "true")
	job := c.newJob("mounts", jobParts{group: writableGroup + closedGroup, task: writableTask + closedTask}).run()
	alloc := job.becomes("running", 60*time.Second)
	// As the C program and its successor have it; the task has three directories of its own.
	must.GreaterEq(t, 5, len(processesWith("source="+c.dir+"/run/"))+len(processesWith("--shared-dir="+c.dir+"/run/")))

	var stats *api.HostStats
	eventually(t, 30*time.Second, "statistics of the node", func() (err error) {
		stats, err = c.api.Nodes().Stats(alloc.NodeID, nil)
		return err
	})
	for _, disk := range stats.DiskStats {
		must.False(t, strings.HasPrefix(disk.Mountpoint, c.dir+"/run/"), must.Sprintf("%s is a disk of the node: %s", disk.Mountpoint, disk.Device))
	}
	// The agent lists what is on a block device only, which depends on where this test keeps its files.
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must.NoError(t, err)
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, " "+c.dir+"/run/") {
			must.StrContains(t, line, " - tmpfs tmpfs ")
		}
	}
	job.stop()
}
