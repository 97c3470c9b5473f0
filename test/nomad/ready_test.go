package nomadtest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// V-100 V-104: the events of a task show how far its guest has come, and when it is ready.
func TestV100_ReadyEvents(t *testing.T) {
	c := newClient(t)
	job := c.tinyJob("ready", `ready {
			agent   = true
			port    = "http"
			log     = "^TINY-READY"
			timeout = "10m"
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
}
