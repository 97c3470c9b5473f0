package nomadtest

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// V-18 V-133: the example of a job runs as it is, on a real Debian: its image is an artifact, its page is served, a key of one's own opens it, it is healthy once its page is there, its console is its log, its figures are known, it powers off in time, and nothing of it stays.
func TestHelloExample(t *testing.T) {
	image := os.Getenv("QMP_DEBIAN_IMAGE")
	if image == "" {
		t.Skip("the Debian guest could not be built on this host")
	}
	mirror := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(image))))
	defer mirror.Close()
	text, err := os.ReadFile("../../examples/hello.nomad.hcl")
	must.NoError(t, err)
	c := newClient(t)
	key := filepath.Join(t.TempDir(), "key")
	must.NoError(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).Run())
	public, err := os.ReadFile(key + ".pub")
	must.NoError(t, err)
	job := &job{c: c, id: "hello", vars: []string{"ssh_key=" + strings.TrimSpace(string(public))}, text: strings.NewReplacer(
		// What this test can't have: the world's mirror, and other agents' networks and nodes.
		`"https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"`, fmt.Sprintf("%q", mirror.URL+"/"+filepath.Base(image)),
		`"virbr0"`, fmt.Sprintf("%q", c.bridge),
		`job "hello" {`, fmt.Sprintf("job \"hello\" {\n  datacenters = [%q]", c.name),
	).Replace(string(text))}
	must.StrContains(t, job.text, mirror.URL)
	must.StrContains(t, job.text, c.bridge)
	job.run()
	alloc := job.becomes("running", 60*time.Second)
	must.Eq(t, "Hello from a virtual machine.\n", page(t, onHost(job.hostPorts()["http"]), 240*time.Second))
	job.says("hello login:")
	job.becomesHealthy(60 * time.Second)
	host, port, err := net.SplitHostPort(onHost(job.hostPorts()["ssh"]))
	must.NoError(t, err)
	login := exec.Command("ssh", "-F", "none", "-i", key, "-p", port, "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "debian@"+host, "hostname")
	name, err := login.Output()
	must.NoError(t, err)
	must.Eq(t, "hello\n", string(name))

	full, _, err := c.api.Allocations().Info(alloc.ID, nil)
	must.NoError(t, err)
	eventually(t, 15*time.Second, "what the guest says of its memory", func() error {
		stats, err := c.api.Allocations().Stats(full, nil)
		if err != nil {
			return err
		}
		if usage := stats.Tasks["vm"]; usage == nil || usage.ResourceUsage.MemoryStats.Usage < 32<<20 {
			return fmt.Errorf("%+v", usage)
		}
		return nil
	})

	begin := time.Now()
	job.stop()
	done := job.becomes("complete", 90*time.Second)
	must.Less(t, patient(60*time.Second), time.Since(begin))
	must.False(t, done.TaskStates["vm"].Failed)
	must.StrContains(t, job.story(), "Guest powered off")
	must.SliceEmpty(t, emulators(c.dir))
	eventually(t, 5*time.Second, "an empty data_dir", func() error {
		if left := tree(t, filepath.Join(c.dir, "data", "vms")); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
}

// becomesHealthy waits until the checks of the newest allocation's services pass, as its deployment counts them.
func (j *job) becomesHealthy(limit time.Duration) {
	j.c.t.Helper()
	eventually(j.c.t, limit, j.id+" is healthy", func() error {
		status := j.allocs()[0].DeploymentStatus
		if status == nil || status.Healthy == nil || !*status.Healthy {
			return fmt.Errorf("%+v\n%s", status, j.story())
		}
		return nil
	})
}
