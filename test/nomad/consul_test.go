package nomadtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/shoenig/test/must"
)

// consul is as much of a Consul agent as Nomad needs to register services, and to report the script checks that it runs itself.
type consul struct {
	mutex    sync.Mutex
	services map[string]any
	checks   map[string]any
	reports  []checkReport
}

// checkReport is what one run of a script check has come to.
type checkReport struct {
	Status string
	Output string
}

// newClientWithConsul starts a client agent that registers its services there.
func newClientWithConsul(t testing.TB) (*client, *consul) {
	it := &consul{services: map[string]any{}, checks: map[string]any{}}
	server := httptest.NewServer(it)
	t.Cleanup(server.Close)
	c := newClientPrepared(t, func(c *client) {
		c.more = c.dir + "/consul.hcl"
		text := fmt.Sprintf("consul {\n  address = %q\n}\n", strings.TrimPrefix(server.URL, "http://"))
		must.NoError(t, os.WriteFile(c.more, []byte(text), 0o600))
	}, "nomad-driver-qmp")
	return c, it
}

// ServeHTTP answers the part of Consul's agent API that Nomad asks.
func (it *consul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	it.mutex.Lock()
	defer it.mutex.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/agent/")
	var body struct{ ID, Name, Status, Output string }
	if r.Method == http.MethodPut && r.ContentLength != 0 {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	var answer any
	switch {
	case path == "self":
		answer = map[string]any{"Config": map[string]any{"Version": "1.20.0", "Datacenter": "dc1", "NodeName": "test", "Server": true, "Revision": "0"}}
	case path == "services":
		answer = it.services
	case path == "checks":
		answer = it.checks
	case path == "service/register":
		it.services[body.ID] = map[string]any{"ID": body.ID, "Service": body.Name}
	case path == "check/register":
		it.checks[body.ID] = map[string]any{"CheckID": body.ID, "Name": body.Name}
	case strings.HasPrefix(path, "service/deregister/"):
		delete(it.services, strings.TrimPrefix(path, "service/deregister/"))
	case strings.HasPrefix(path, "check/deregister/"):
		delete(it.checks, strings.TrimPrefix(path, "check/deregister/"))
	case strings.HasPrefix(path, "check/update/"):
		it.reports = append(it.reports, checkReport{body.Status, body.Output})
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if answer != nil {
		_ = json.NewEncoder(w).Encode(answer)
	}
}

// reported is an error unless the last run of the check has this status, and this in its output.
func (it *consul) reported(status, output string) error {
	it.mutex.Lock()
	defer it.mutex.Unlock()
	if len(it.reports) == 0 {
		return fmt.Errorf("there is no report; checks: %v", it.checks)
	}
	last := it.reports[len(it.reports)-1]
	if last.Status != status || !strings.Contains(last.Output, output) {
		return fmt.Errorf("the last of %d reports is %+v", len(it.reports), last)
	}
	return nil
}
