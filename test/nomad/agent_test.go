package nomadtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/jobspec2"
	"github.com/shoenig/test/must"
)

// agent is a nomad process that may be killed and started again on the same data.
type agent struct {
	t       testing.TB
	dir     string
	config  string
	more    string // a further configuration file, or none
	log     string
	command *exec.Cmd
	exited  chan struct{}
}

// begin starts the process. Its output goes to a file: what it starts inherits it and may outlive the test.
func (a *agent) begin() {
	a.t.Helper()
	log, err := os.OpenFile(a.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must.NoError(a.t, err)
	defer log.Close()
	a.command = exec.Command(fromEnv(a.t, "NOMAD_BIN"), "agent", "-config="+a.config)
	if a.more != "" {
		a.command.Args = append(a.command.Args, "-config="+a.more)
	}
	// Whatever it starts is found again by this word, even a log collector that has no argument of ours.
	a.command.Env = append(os.Environ(), "NQ_TEST_DIR="+a.dir, "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
	a.command.Stdout, a.command.Stderr = log, log
	must.NoError(a.t, a.command.Start())
	a.exited = make(chan struct{})
	go func(command *exec.Cmd, exited chan struct{}) {
		_ = command.Wait()
		close(exited)
	}(a.command, a.exited)
}

// nomadMinor is the second number of the version of these tests' agent.
func nomadMinor(t testing.TB) (minor int) {
	t.Helper()
	output, err := exec.Command(fromEnv(t, "NOMAD_BIN"), "version").Output()
	must.NoError(t, err)
	_, err = fmt.Sscanf(string(output), "Nomad v1.%d.", &minor)
	must.NoError(t, err, must.Sprint(string(output)))
	return minor
}

// end sends a signal and waits for the end of the process; machines and, after SIGKILL, plugins stay.
func (a *agent) end(signal syscall.Signal) {
	a.t.Helper()
	_ = a.command.Process.Signal(signal)
	select {
	case <-a.exited:
	case <-time.After(patient(15 * time.Second)):
		_ = a.command.Process.Kill()
		<-a.exited
		a.t.Errorf("the agent did not end within 15 s of %v", signal)
	}
}

const serverPorts = 17646

var (
	theServer    *agent
	theServerDir string
	serverOnce   sync.Once
	clientCount  atomic.Int32
)

// server is the one server of all tests: it never dies, so a restarted client finds a leader at once. A client is never taken
// for lost, for its tasks would be replaced: its restart on a busy host takes longer than some seconds.
func server(t testing.TB) *api.Client {
	t.Helper()
	serverOnce.Do(func() {
		dir, err := os.MkdirTemp("/tmp", "nqserver")
		must.NoError(t, err)
		theServerDir = dir
		a := &agent{t: t, dir: dir, config: dir + "/server.hcl", log: dir + "/log"}
		must.NoError(t, os.WriteFile(a.config, []byte(agentConfig("server", dir, serverPorts)+`
server {
  enabled           = true
  bootstrap_expect  = 1
  min_heartbeat_ttl = "1s"
  heartbeat_grace   = "10m"
  max_heartbeats_per_second = 1000
}
`), 0o600))
		a.begin()
		theServer = a
	})
	client := apiClient(t)
	eventually(t, 30*time.Second, "a leader", func() error {
		leader, err := client.Status().Leader()
		if err == nil && leader == "" {
			err = fmt.Errorf("there is none")
		}
		return err
	})
	return client
}

func apiClient(t testing.TB) *api.Client {
	client, err := api.NewClient(&api.Config{Address: fmt.Sprintf("http://127.0.0.1:%d", serverPorts)})
	must.NoError(t, err)
	return client
}

func agentConfig(name, dir string, port int) string {
	return fmt.Sprintf(`
name                 = %q
datacenter           = %q
data_dir             = %q
bind_addr            = "127.0.0.1"
log_level            = "DEBUG"
disable_update_check = true
ports {
  http = %d
  rpc  = %d
  serf = %d
}
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
telemetry {
  publish_allocation_metrics = true
  collection_interval        = "1s"
}
`, name, name, dir+"/agent/data", port, port+1, port+2)
}

func TestMain(m *testing.M) {
	if os.Getenv("QMP_ISOLATED") == "" {
		fmt.Fprintln(os.Stderr, "these tests change links and rules: they run in scripts/isolated.sh only (npm test -- nomad)")
		os.Exit(1)
	}
	code := m.Run()
	if theServer != nil {
		_ = theServer.command.Process.Kill()
		<-theServer.exited
		_ = os.RemoveAll(theServerDir)
	}
	os.Exit(code)
}

// client is a client agent of its own, with the plugin in its plugin_dir and a bridge that no other test uses.
type client struct {
	*agent
	name   string
	bridge string
	api    *api.Client
	node   string
}

// newClient starts a client agent and waits until jobs can be placed on it.
func newClient(t testing.TB) *client { return newClientWith(t, "nomad-driver-qmp") }

// newClientWith has the plugin's file under each of these names in its plugin_dir.
func newClientWith(t testing.TB, names ...string) *client {
	t.Helper()
	return newClientPrepared(t, func(*client) {}, names...)
}

// newClientPrepared does something before the agent is started.
func newClientPrepared(t testing.TB, prepare func(*client), names ...string) *client {
	t.Helper()
	nomad := server(t)
	dir := shortDir(t)
	number := int(clientCount.Add(1))
	c := &client{
		agent:  &agent{t: t, dir: dir, config: dir + "/client.hcl", log: dir + "/log"},
		name:   fmt.Sprintf("c%d", number),
		bridge: fmt.Sprintf("nqt%d", number),
		api:    nomad,
	}
	plugins := filepath.Join(dir, "plugins")
	must.NoError(t, os.Mkdir(plugins, 0o755))
	for _, name := range names {
		must.NoError(t, os.Symlink(pluginPath(t), plugins+"/"+name))
	}
	volumes := filepath.Join(dir, "volumes")
	must.NoError(t, os.MkdirAll(volumes+"/disks", 0o700))
	must.NoError(t, os.MkdirAll(volumes+"/shared", 0o755))
	// The guest's root is the directory's owner.
	must.NoError(t, os.Chown(volumes+"/shared", 200_000, 200_000))
	var blocks []string
	for _, name := range names {
		blocks = append(blocks, fmt.Sprintf(`plugin %q {
  config {
    data_dir    = %q
    run_dir     = %q
    image_paths = [%s]
    log_level   = "trace"
    limits {
      min_memory_mb = 16
      min_disk_mb   = 1
    }
    managed_network {
      bridge  = %q
      address = "10.99.%d.1/24"
    }
  }
}`, name, dir+"/data", dir+"/run", imagePaths(t), c.bridge, number))
	}
	must.NoError(t, os.WriteFile(c.config, []byte(agentConfig(c.name, dir, serverPorts+1000+10*number)+fmt.Sprintf(`
plugin_dir = %q
client {
  enabled           = true
  servers           = ["127.0.0.1:%d"]
  cpu_total_compute = 4000
  network_interface = "uplink0"
  cni_path          = "/usr/lib/cni"
  max_kill_timeout  = "60s"
  host_volume "disks" {
    path = %q
  }
  host_volume "shared" {
    path = %q
  }
  options = {
    "driver.allowlist"     = "virt,nomad-driver-virt,qemu"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}
%s
`, plugins, serverPorts+1, volumes+"/disks", volumes+"/shared", strings.Join(blocks, "\n"))), 0o600))
	t.Cleanup(c.cleanUp)
	prepare(c)
	c.begin()
	c.ready()
	return c
}

// imagePaths is where the guests of the tests are, as a list in HCL.
func imagePaths(t testing.TB) string {
	paths := fmt.Sprintf("%q", fromEnv(t, "QMP_SECTOR_IMAGES"))
	for _, guest := range []string{"QMP_TINY_IMAGE", "QMP_DEBIAN_IMAGE"} {
		if image := os.Getenv(guest); image != "" {
			paths += fmt.Sprintf(", %q", filepath.Dir(image))
		}
	}
	return paths
}

// ready waits until the node of this agent is known to be up, with a healthy driver.
func (c *client) ready() {
	c.t.Helper()
	eventually(c.t, 30*time.Second, "node "+c.name+" with a healthy driver", func() error {
		select {
		case <-c.exited:
			c.t.Fatalf("the agent has ended:\n%s", c.logTail(60))
		default:
		}
		nodes, _, err := c.api.Nodes().List(nil)
		if err != nil {
			return err
		}
		for _, node := range nodes {
			if node.Name != c.name {
				continue
			}
			c.node = node.ID
			driver := node.Drivers["virt"]
			if node.Status != "ready" || driver == nil || !driver.Healthy {
				return fmt.Errorf("status %s, driver %+v", node.Status, driver)
			}
			return nil
		}
		return fmt.Errorf("the server does not know it")
	})
}

func (c *client) logTail(count int) string {
	data, _ := os.ReadFile(c.log)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

// cleanUp removes what the test ran the way an operator would, then what is left of it by force.
func (c *client) cleanUp() {
	if c.t.Failed() {
		c.t.Logf("end of the agent's log:\n%s", c.logTail(120))
	}
	jobs, _, _ := c.api.Jobs().List(nil)
	for _, job := range jobs {
		if strings.HasPrefix(job.ID, c.name+"-") {
			_, _, _ = c.api.Jobs().Deregister(job.ID, false, nil)
		}
	}
	deadline := time.Now().Add(patient(15 * time.Second))
	remains := func() []string {
		files := tree(c.t, filepath.Join(c.dir, "data", "vms"))
		for _, p := range emulators(c.dir) {
			files = append(files, p.String())
		}
		return files
	}
	for len(remains()) > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	if left := remains(); len(left) > 0 && !c.t.Failed() {
		c.t.Errorf("left after all jobs were stopped: %v\n%s", left, c.logTail(60))
	}
	for _, job := range jobs {
		if strings.HasPrefix(job.ID, c.name+"-") {
			_, _, _ = c.api.Jobs().Deregister(job.ID, true, nil)
		}
	}
	c.end(syscall.SIGINT)
	for _, p := range processesOf(c.dir) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	endAll(c.t, c.dir)
	_ = exec.Command("ip", "link", "del", c.bridge).Run()
	_, _, _ = c.api.Nodes().Purge(c.node, nil)
}

// processesOf are the processes that descend from an agent in this directory, by the word in their environment.
func processesOf(dir string) []process {
	var found []process
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte("NQ_TEST_DIR="+dir+"\x00")) {
			var pid int
			_, _ = fmt.Sscanf(path, "/proc/%d/", &pid)
			if start := startTime(pid); start != "" {
				found = append(found, process{pid, start})
			}
		}
	}
	return found
}

// plugin is the plugin process that serves this agent.
func (c *client) plugin() process {
	c.t.Helper()
	var found []process
	eventually(c.t, 10*time.Second, "one plugin process", func() error {
		found = processesWith(c.dir + "/plugins/nomad-driver-qmp")
		if len(found) != 1 {
			return fmt.Errorf("there are %v", found)
		}
		return nil
	})
	return found[0]
}

// job is one job on one client.
type job struct {
	c    *client
	id   string
	text string
	vars []string // of its variables, as -var has them
}

// jobText is a job with one task; the parts given go into the job, group, task and config blocks.
type jobParts struct {
	kind    string // default: service
	count   int    // default: 1
	mode    sectorMode
	image   string // instead of the sector guest
	job     string
	group   string
	task    string
	config  string
	memory  int // MiB, default: 32
	restart string
}

func (c *client) newJob(name string, parts jobParts) *job {
	c.t.Helper()
	kind, count, memory, image, restart := parts.kind, parts.count, parts.memory, parts.image, parts.restart
	if kind == "" {
		kind = "service"
	}
	if count == 0 {
		count = 1
	}
	if memory == 0 {
		memory = 32
	}
	if image == "" {
		image = sectorImage(c.t, parts.mode)
	}
	if restart == "" {
		restart = "restart {\n attempts = 0\n mode = \"fail\"\n }"
	}
	reschedule := "reschedule {\n attempts = 0\n unlimited = false\n }"
	id := c.name + "-" + name
	return &job{c: c, id: id, text: fmt.Sprintf(`
job %q {
  type        = %q
  datacenters = [%q]
  %s
  group "g" {
    count = %d
    %s
    %s
    %s
    task "vm" {
      driver = "virt"
      %s
      config {
        image             = %q
        primary_disk_size = 64
        use_thin_copy     = true
        vcpus             = 1
        accelerator       = "tcg"
        %s
      }
      resources {
        cpu    = 50
        memory = %d
      }
    }
  }
}
`, id, kind, c.name, parts.job, count, restart, reschedule, parts.group, parts.task, image, parts.config, memory)}
}

// run registers the job, as "nomad job run" does.
func (j *job) run() *job {
	j.c.t.Helper()
	parsed, err := jobspec2.ParseWithConfig(&jobspec2.ParseConfig{Path: "job.nomad.hcl", Body: []byte(j.text), ArgVars: j.vars})
	must.NoError(j.c.t, err, must.Sprint(j.text))
	_, _, err = j.c.api.Jobs().Register(parsed, nil)
	must.NoError(j.c.t, err)
	return j
}

func (j *job) stop() {
	j.c.t.Helper()
	_, _, err := j.c.api.Jobs().Deregister(j.id, false, nil)
	must.NoError(j.c.t, err)
}

// allocs of the job, newest first.
func (j *job) allocs() []*api.AllocationListStub {
	j.c.t.Helper()
	list, _, err := j.c.api.Jobs().Allocations(j.id, true, nil)
	must.NoError(j.c.t, err)
	for a := range list {
		for b := a + 1; b < len(list); b++ {
			if list[b].CreateIndex > list[a].CreateIndex {
				list[a], list[b] = list[b], list[a]
			}
		}
	}
	return list
}

// becomes waits until the newest allocation has the status.
func (j *job) becomes(status string, limit time.Duration) *api.AllocationListStub {
	j.c.t.Helper()
	var newest *api.AllocationListStub
	eventually(j.c.t, limit, j.id+" becomes "+status, func() error {
		list := j.allocs()
		if len(list) == 0 {
			return fmt.Errorf("there is no allocation")
		}
		newest = list[0]
		if newest.ClientStatus != status {
			return fmt.Errorf("it is %s\n%s", newest.ClientStatus, story(newest.TaskStates["vm"]))
		}
		return nil
	})
	return newest
}

// story is what "nomad alloc status" shows of a task.
func story(state *api.TaskState) string {
	if state == nil {
		return "(no task state)"
	}
	lines := []string{fmt.Sprintf("task is %s, failed %v, restarts %d", state.State, state.Failed, state.Restarts)}
	for _, event := range state.Events {
		lines = append(lines, fmt.Sprintf("%s %s: %s", time.Unix(0, event.Time).Format("15:04:05.000"), event.Type, event.DisplayMessage))
	}
	return strings.Join(lines, "\n")
}

func (j *job) story() string {
	list := j.allocs()
	if len(list) == 0 {
		return "(no allocation)"
	}
	return story(list[0].TaskStates["vm"])
}

// logs of the newest allocation, as "nomad alloc logs" reads them.
func (j *job) logs(kind string) string {
	j.c.t.Helper()
	list := j.allocs()
	if len(list) == 0 {
		return ""
	}
	data, _ := os.ReadFile(fmt.Sprintf("%s/agent/data/alloc/%s/alloc/logs/vm.%s.0", j.c.dir, list[0].ID, kind))
	return string(data)
}

func (j *job) says(text string) {
	j.c.t.Helper()
	eventually(j.c.t, 60*time.Second, fmt.Sprintf("%q in the log of %s", text, j.id), func() error {
		if log := j.logs("stdout"); !strings.Contains(log, text) {
			return fmt.Errorf("it ends with %q\n%s\nstderr: %s", tail(log, 300), j.story(), tail(j.logs("stderr"), 600))
		}
		return nil
	})
}

// emulator is the one QEMU on this client.
func (c *client) emulator() process {
	c.t.Helper()
	found := emulators(c.dir)
	must.Len(c.t, 1, found, must.Sprint("QEMU processes of this client"))
	return found[0]
}
