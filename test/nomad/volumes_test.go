package nomadtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// keeper has a second disk in a host volume, and a directory of another one; its guest reports what it finds in both, and leaves a word.
func (c *client) keeper(name string) *job {
	script := `#!/bin/sh
mkdir -p /shared
mount -t virtiofs _shared /shared
echo "FOUND-$(head -c 5 /dev/vdb | tr -d '\\0')-$(cat /shared/word 2>/dev/null)-END"
printf hello | dd of=/dev/vdb conv=fsync 2>/dev/null
echo shared > /shared/word
sync
echo WRITTEN
`
	job := c.newJob(name, jobParts{
		image:  tinyImage(c.t),
		memory: 160,
		group: `volume "disks" {
			type   = "host"
			source = "disks"
		}
		volume "shared" {
			type   = "host"
			source = "shared"
		}`,
		task: `volume_mount {
			volume      = "disks"
			destination = "/disks"
		}
		volume_mount {
			volume      = "shared"
			destination = "/shared"
		}`,
		config: fmt.Sprintf("user_data = <<EOF\n%sEOF\n", script),
	})
	return job.withDisks(tinyImage(c.t), fmt.Sprintf(`disk {
          primary = true
          chained = true
          size    = "64MiB"
          source { image = %q }
        }
        disk {
          volume = "/disks"
          size   = "8MiB"
        }`, tinyImage(c.t)))
}

// lives waits until a guest of the job has reported this content, so many times in the log of its newest allocation.
func (j *job) found(text string, times int) {
	j.c.t.Helper()
	eventually(j.c.t, 90*time.Second, fmt.Sprintf("%s %d times", text, times), func() error {
		log := j.logs("stdout")
		if countIn(log, text) < times || countIn(log, "WRITTEN") < countIn(log, "FOUND-") {
			return fmt.Errorf("the log ends with %q\n%s", tail(log, 300), j.story())
		}
		return nil
	})
}

// V-52 V-50 V-69: what a guest writes to a disk and to a directory in host volumes outlives restarts, updates, a crash of the agent, and the job.
func TestV52_DiskInAHostVolume(t *testing.T) {
	c := newClient(t)
	job := c.keeper("keeper").run()
	alloc := job.becomes("running", 60*time.Second)
	job.found("FOUND---END", 1)

	full, _, err := c.api.Allocations().Info(alloc.ID, nil)
	must.NoError(t, err)
	must.NoError(t, c.api.Allocations().Restart(full, "vm", nil))
	job.found("FOUND-hello-shared-END", 1)

	job.text = strings.Replace(job.text, "cpu    = 50", "cpu    = 60", 1)
	job.run()
	eventually(t, 60*time.Second, "a second allocation", func() error {
		if now := job.allocs()[0]; now.ID == alloc.ID || now.ClientStatus != "running" {
			return fmt.Errorf("%s is %s\n%s", now.ID, now.ClientStatus, job.story())
		}
		return nil
	})
	job.found("FOUND-hello-shared-END", 1)

	machine := c.emulator()
	c.end(syscall.SIGKILL)
	c.begin()
	c.ready()
	job.becomes("running", 30*time.Second)
	must.Eq(t, machine, c.emulator())

	job.stop()
	job.becomes("complete", 60*time.Second)
	disk := filepath.Join(c.dir, "volumes/disks/vdb.qcow2")
	_, err = os.Stat(disk)
	must.NoError(t, err)
	again := c.keeper("again").run()
	again.becomes("running", 60*time.Second)
	again.found("FOUND-hello-shared-END", 1)
}
