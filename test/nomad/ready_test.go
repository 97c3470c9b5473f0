package nomadtest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// V-94 V-100 V-104: the events of a task show how far its guest has come, and when it is ready; then a signal runs the
// command that the job names for it.
func TestV100_ReadyEvents(t *testing.T) {
	c := newClient(t)
	job := c.tinyJob("ready", `ready {
			agent   = true
			port    = "http"
			log     = "^TINY-READY"
			timeout = "10m"
		}
		exec {
			on_sighup = ["sh", "-c", "echo HUNG-UP > /dev/console"]
		}`)
	job.run()
	job.becomes("running", 60*time.Second)
	eventually(t, 120*time.Second, "the events of a guest that is ready", func() error {
		events := job.story()
		for _, event := range []string{"Guest agent is connected", "Guest reports the address 10.99.", "Guest is ready after "} {
			if !strings.Contains(events, event) {
				return fmt.Errorf("no %q in\n%s", event, events)
			}
		}
		return nil
	})
	alloc, _, err := c.api.Allocations().Info(job.allocs()[0].ID, nil)
	must.NoError(t, err)
	must.NoError(t, c.api.Allocations().Signal(alloc, nil, "vm", "SIGHUP"))
	job.says("HUNG-UP")
	refused := c.api.Allocations().Signal(alloc, nil, "vm", "SIGUSR2")
	must.Error(t, refused)
	must.StrContains(t, refused.Error(), "has no meaning for a VM; supported are SIGTERM")
}
