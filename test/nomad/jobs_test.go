package nomadtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// P-44: under a real agent (of another version by $NOMAD_BIN) a service runs, its console is its log, its figures are known, and it stops when asked.
func TestJobRunsLogsAndStops(t *testing.T) {
	c := newClient(t)
	job := c.newJob("web", jobParts{mode: obedient}).run()
	alloc := job.becomes("running", 30*time.Second)
	job.says("GUEST-TICK")

	t.Run("logs come through the API", func(t *testing.T) {
		full, _, err := c.api.Allocations().Info(alloc.ID, nil)
		must.NoError(t, err)
		cancel := make(chan struct{})
		defer close(cancel)
		frames, errs := c.api.AllocFS().Logs(full, true, "vm", "stdout", "start", 0, cancel, nil)
		text := ""
		eventually(t, 10*time.Second, "GUEST-TICK through the API", func() error {
			select {
			case frame := <-frames:
				text += string(frame.Data)
			case err := <-errs:
				return err
			case <-time.After(patient(time.Second)):
			}
			if !strings.Contains(text, "GUEST-TICK") {
				return fmt.Errorf("so far %q", text)
			}
			return nil
		})
	})
	t.Run("stats come through the API", func(t *testing.T) {
		full, _, err := c.api.Allocations().Info(alloc.ID, nil)
		must.NoError(t, err)
		eventually(t, 15*time.Second, "memory and CPU of the task", func() error {
			stats, err := c.api.Allocations().Stats(full, nil)
			if err != nil {
				return err
			}
			usage := stats.Tasks["vm"]
			if usage == nil || usage.ResourceUsage == nil || usage.ResourceUsage.MemoryStats.RSS < 1<<20 {
				return fmt.Errorf("%+v", usage)
			}
			return nil
		})
	})
	t.Run("the node says what the driver can", func(t *testing.T) {
		node, _, err := c.api.Nodes().Info(c.node, nil)
		must.NoError(t, err)
		for _, key := range []string{"driver.virt", "driver.virt.emulator.version"} {
			must.MapContainsKey(t, node.Attributes, key)
		}
	})
	t.Run("the events tell the story", func(t *testing.T) {
		must.StrContains(t, job.story(), "Started: Task started by client")
		must.StrContains(t, job.story(), "Driver:")
	})
	t.Run("it stops within kill_timeout and as a success", func(t *testing.T) {
		begin := time.Now()
		job.stop()
		done := job.becomes("complete", 15*time.Second)
		must.Less(t, patient(8*time.Second), time.Since(begin))
		must.False(t, done.TaskStates["vm"].Failed)
		job.says("GUEST-BUTTON")
		must.SliceEmpty(t, emulators(c.dir))
		eventually(t, 5*time.Second, "an empty data_dir", func() error {
			if left := tree(t, filepath.Join(c.dir, "data", "vms")); len(left) > 0 {
				return fmt.Errorf("%v", left)
			}
			return nil
		})
	})
}

// V-72 V-74 V-129: reserved cores are the machine's processors, and all of the machine is in its task's groups, which limit it.
func TestReservedCores(t *testing.T) {
	c := newClient(t)
	job := c.newJob("pinned", jobParts{mode: obedient, memory: 64})
	job.text = strings.Replace(job.text, "vcpus             = 1\n", "", 1)
	job.text = strings.Replace(job.text, "cpu    = 50", "cores  = 1", 1)
	job.run()
	alloc := job.becomes("running", 30*time.Second)
	job.says("GUEST-TICK")
	emulator := c.emulator()
	groups := readText(t, fmt.Sprintf("/proc/%d/cgroup", emulator.pid))
	for _, controller := range []string{"memory", "cpu", "freezer"} {
		must.RegexMatch(t, regexp.MustCompile(`(?m)^\d+:`+controller+`:/.*`+alloc.ID+`\.vm$`), groups)
	}
	must.RegexMatch(t, regexp.MustCompile(`(?m)^\d+:cpuset:/.*reserve/`+alloc.ID+`\.vm$`), groups)
	status := readText(t, fmt.Sprintf("/proc/%d/status", emulator.pid))
	must.RegexMatch(t, regexp.MustCompile(`(?m)^Cpus_allowed_list:\s+\d+$`), status)
	limit := readText(t, "/sys/fs/cgroup/memory/nomad/"+alloc.ID+".vm/memory.limit_in_bytes")
	bytes, err := strconv.Atoi(strings.TrimSpace(limit))
	must.NoError(t, err)
	must.Between(t, (64+128)<<20, bytes, (64+512)<<20)
	job.stop()
	job.becomes("complete", 15*time.Second)
}

func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must.NoError(t, err)
	return string(text)
}

// A guest that does not listen is ended after its kill_timeout.
func TestDeafGuestEndsAfterKillTimeout(t *testing.T) {
	c := newClient(t)
	job := c.newJob("deaf", jobParts{mode: deaf, task: `kill_timeout = "3s"`}).run()
	job.becomes("running", 30*time.Second)
	job.says("GUEST-TICK")
	begin := time.Now()
	job.stop()
	job.becomes("complete", 15*time.Second)
	must.Between(t, 2*time.Second, time.Since(begin), patient(8*time.Second))
}

// The ends of a machine, as its job shows them.
func TestEndsOfAMachine(t *testing.T) {
	c := newClient(t)
	for name, it := range map[string]struct {
		mode   sectorMode
		status string
		code   int
		word   string
	}{
		"a batch job ends by itself": {powersOff, "complete", 0, "Exit Code: 0"},
		"a panic is a failure":       {panics, "failed", 1, "panic"},
	} {
		t.Run(name, func(t *testing.T) {
			job := c.newJob(strings.ReplaceAll(name, " ", "-"), jobParts{kind: "batch", mode: it.mode}).run()
			alloc := job.becomes(it.status, 40*time.Second)
			must.Eq(t, it.status == "failed", alloc.TaskStates["vm"].Failed)
			must.StrContains(t, job.story(), it.word)
		})
	}
	t.Run("a killed QEMU is a failure with its signal", func(t *testing.T) {
		job := c.newJob("killed", jobParts{mode: obedient}).run()
		job.becomes("running", 30*time.Second)
		job.says("GUEST-BOOT")
		c.emulator().signal(t, syscall.SIGKILL)
		job.becomes("failed", 15*time.Second)
		must.StrContains(t, job.story(), "Signal: 9")
	})
	t.Run("a reset goes on in the same machine", func(t *testing.T) {
		job := c.newJob("reset", jobParts{mode: resets}).run()
		job.becomes("running", 30*time.Second)
		eventually(t, 40*time.Second, "three boots", func() error {
			if n := countIn(job.logs("stdout"), "GUEST-BOOT"); n < 3 {
				return fmt.Errorf("%d boots", n)
			}
			return nil
		})
		must.StrNotContains(t, job.story(), "Terminated")
	})
}

// What a job got wrong is in its events.
func TestMistakesAreExplained(t *testing.T) {
	c := newClient(t)
	for name, it := range map[string]struct {
		parts jobParts
		words []string
	}{
		"an image that is not there":        {jobParts{image: "/no/such/image.raw"}, []string{"/no/such/image.raw"}},
		"an image outside of image_paths":   {jobParts{image: "/etc/hostname"}, []string{"/etc/hostname", "allowed"}},
		"an option that does not exist":     {jobParts{config: `colour = "green"`}, []string{"colour"}},
		"two values that make no sense":     {jobParts{config: "hostname = \"-x-\"\n os {\n arch = \"pdp11\"\n }"}, []string{"hostname", "os.arch"}},
		"a bridge that is no bridge's name": {jobParts{config: "network_interface {\n bridge {\n name = \"no such bridge\"\n }\n }"}, []string{"no such bridge"}},
	} {
		t.Run(name, func(t *testing.T) {
			parts := it.parts
			parts.kind = "batch"
			job := c.newJob(strings.ReplaceAll(name, " ", "-"), parts).run()
			job.becomes("failed", 20*time.Second)
			for _, word := range it.words {
				must.StrContains(t, job.story(), word)
			}
			t.Log(job.story())
		})
	}
}

// P-37: kill -9 of the plugin. The machine goes on, is found again, and nobody starts a second one.
func TestP37_PluginKilled(t *testing.T) {
	c := newClient(t)
	job := c.newJob("web", jobParts{mode: obedient}).run()
	job.becomes("running", 30*time.Second)
	job.says("GUEST-TICK")
	machine := c.emulator()
	first := c.plugin()
	first.signal(t, syscall.SIGKILL)
	eventually(t, 5*time.Second, "another plugin", func() error {
		if now := processesWith(c.dir + "/plugins/nomad-driver-qmp"); len(now) != 1 || now[0] == first {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
	ticks := countIn(job.logs("stdout"), "GUEST-TICK")
	eventually(t, 10*time.Second, "more lines in the log", func() error {
		if now := countIn(job.logs("stdout"), "GUEST-TICK"); now < ticks+2 {
			return fmt.Errorf("%d lines, %d before", now, ticks)
		}
		return nil
	})
	must.Eq(t, machine, c.emulator())
	job.becomes("running", time.Second)
	must.StrNotContains(t, job.story(), "Restarting")
	job.stop()
	job.becomes("complete", 15*time.Second)
	job.says("GUEST-BUTTON")
}

// P-40: a machine that dies while its plugin is dead is reported.
func TestP40_MachineAndPluginKilled(t *testing.T) {
	c := newClient(t)
	job := c.newJob("web", jobParts{mode: obedient}).run()
	job.becomes("running", 30*time.Second)
	job.says("GUEST-BOOT")
	machine, first := c.emulator(), c.plugin()
	// Stopped first, so that the plugin cannot see the machine's end before its own.
	first.signal(t, syscall.SIGSTOP)
	machine.signal(t, syscall.SIGKILL)
	first.signal(t, syscall.SIGKILL)
	job.becomes("failed", 20*time.Second)
	t.Log(job.story())
	must.SliceEmpty(t, emulators(c.dir))
}

// P-38 and P-39: the agent ends in order, or not; the next one adopts the machine.
func TestAgentRestarts(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"P-38: killed": syscall.SIGKILL, "P-39: stopped": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			job := c.newJob("web", jobParts{mode: obedient}).run()
			alloc := job.becomes("running", 30*time.Second)
			job.says("GUEST-TICK")
			machine := c.emulator()
			c.end(signal)
			must.True(t, machine.alive())
			ticks := countIn(job.logs("stdout"), "GUEST-TICK")
			time.Sleep(time.Second)
			c.begin()
			c.ready()
			eventually(t, 15*time.Second, "more lines in the log", func() error {
				if now := countIn(job.logs("stdout"), "GUEST-TICK"); now < ticks+2 {
					return fmt.Errorf("%d lines, %d before", now, ticks)
				}
				return nil
			})
			must.Eq(t, machine, c.emulator())
			must.Eq(t, alloc.ID, job.becomes("running", 10*time.Second).ID)
			job.stop()
			job.becomes("complete", 20*time.Second)
			job.says("GUEST-BUTTON")
		})
	}
}

// A restart of the task: a new machine in the same allocation.
func TestRestartInPlace(t *testing.T) {
	c := newClient(t)
	job := c.newJob("web", jobParts{mode: obedient}).run()
	alloc := job.becomes("running", 30*time.Second)
	job.says("GUEST-TICK")
	before := c.emulator()
	full, _, err := c.api.Allocations().Info(alloc.ID, nil)
	must.NoError(t, err)
	must.NoError(t, c.api.Allocations().Restart(full, "vm", nil))
	eventually(t, 20*time.Second, "another machine", func() error {
		if now := emulators(c.dir); len(now) != 1 || now[0] == before {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
	eventually(t, 20*time.Second, "a second boot in the same log", func() error {
		if n := countIn(job.logs("stdout"), "GUEST-BOOT"); n < 2 {
			return fmt.Errorf("%d boots", n)
		}
		return nil
	})
	must.Eq(t, alloc.ID, job.becomes("running", 5*time.Second).ID)
}

// A failed machine comes back by its restart policy.
func TestRestartPolicy(t *testing.T) {
	c := newClient(t)
	job := c.newJob("web", jobParts{mode: obedient, restart: "restart {\n attempts = 2\n delay = \"1s\"\n mode = \"fail\"\n }"}).run()
	job.becomes("running", 30*time.Second)
	job.says("GUEST-BOOT")
	before := c.emulator()
	before.signal(t, syscall.SIGKILL)
	eventually(t, 20*time.Second, "another machine", func() error {
		if now := emulators(c.dir); len(now) != 1 || now[0] == before {
			return fmt.Errorf("%v\n%s", now, job.story())
		}
		return nil
	})
	job.becomes("running", 5*time.Second)
}

// Ten machines at once, and none of them is left.
func TestTenMachines(t *testing.T) {
	c := newClient(t)
	job := c.newJob("many", jobParts{mode: obedient, count: 10}).run()
	eventually(t, 90*time.Second, "ten running allocations", func() error {
		running := 0
		for _, alloc := range job.allocs() {
			if alloc.ClientStatus == "running" {
				running++
			}
		}
		if running != 10 {
			return fmt.Errorf("%d run\n%s", running, job.story())
		}
		return nil
	})
	must.Len(t, 10, emulators(c.dir))
	job.stop()
	eventually(t, 30*time.Second, "no machine", func() error {
		if left := emulators(c.dir); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
}

// A change that the running machine cannot take: a new one replaces it.
func TestDestructiveUpdate(t *testing.T) {
	c := newClient(t)
	job := c.newJob("web", jobParts{mode: obedient}).run()
	first := job.becomes("running", 30*time.Second)
	job.says("GUEST-BOOT")
	before := c.emulator()
	changed := c.newJob("web", jobParts{mode: obedient, memory: 48}).run()
	eventually(t, 30*time.Second, "a new allocation that runs", func() error {
		newest := changed.allocs()[0]
		if newest.ID == first.ID || newest.ClientStatus != "running" {
			return fmt.Errorf("newest is %s, %s", newest.ID, newest.ClientStatus)
		}
		return nil
	})
	eventually(t, 10*time.Second, "the old machine is gone", func() error {
		if before.alive() {
			return fmt.Errorf("%v lives", before)
		}
		return nil
	})
	must.Len(t, 1, emulators(c.dir))
}

// Draining a node ends its machines politely.
func TestDrain(t *testing.T) {
	c := newClient(t)
	job := c.newJob("web", jobParts{mode: obedient}).run()
	job.becomes("running", 30*time.Second)
	job.says("GUEST-TICK")
	spec := &api.DrainSpec{Deadline: time.Minute}
	_, err := c.api.Nodes().UpdateDrain(c.node, spec, false, nil)
	must.NoError(t, err)
	eventually(t, 30*time.Second, "no machine", func() error {
		if left := emulators(c.dir); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	job.says("GUEST-BUTTON")
}

// A purged job leaves nothing of its allocation.
func TestPurgeRemovesTheAllocation(t *testing.T) {
	c := newClient(t)
	job := c.newJob("web", jobParts{mode: obedient}).run()
	alloc := job.becomes("running", 30*time.Second)
	dir := filepath.Join(c.dir, "agent/data/alloc", alloc.ID)
	_, _, err := c.api.Jobs().Deregister(job.id, true, nil)
	must.NoError(t, err)
	must.NoError(t, c.api.System().GarbageCollect())
	eventually(t, 30*time.Second, "no directory of the allocation", func() error {
		if left := tree(t, dir); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	must.SliceEmpty(t, emulators(c.dir))
}

// A console that never rests fills the log, and neither the machine nor the agent minds.
func TestChattyGuest(t *testing.T) {
	c := newClient(t)
	job := c.newJob("chatty", jobParts{mode: chatty, task: "logs {\n max_files = 2\n max_file_size = 1\n }"}).run()
	job.becomes("running", 30*time.Second)
	eventually(t, 30*time.Second, "a megabyte of log", func() error {
		if size := len(job.logs("stdout")); size < 1<<18 {
			return fmt.Errorf("%d bytes", size)
		}
		return nil
	})
	begin := time.Now()
	job.stop()
	job.becomes("complete", 20*time.Second)
	must.Less(t, patient(10*time.Second), time.Since(begin))
}
