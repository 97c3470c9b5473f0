package nomadtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"
	"google.golang.org/grpc/status"
)

const sigterm = syscall.SIGTERM

func grpcCode(err error) uint32 { return uint32(status.Code(err)) }

// P-23: StartTask answers with a handle from which another process can go on.
func TestP23_StartTaskHandle(t *testing.T) {
	h := launch(t)
	task := h.sectorTask("web", obedient)
	handle := task.start()
	must.GreaterEq(t, 1, handle.Version)
	must.Eq(t, drivers.TaskStateRunning, handle.State)
	must.SliceNotEmpty(t, handle.DriverState)
	// Nomad loses the task without it (the client keeps this echo, and nothing else, over a restart).
	must.Eq(t, task.ID, handle.Config.ID)
	must.Eq(t, task.AllocDir, handle.Config.AllocDir)
	must.Eq(t, task.StdoutPath, handle.Config.StdoutPath)
	must.Eq(t, task.Env, handle.Config.Env)
	task.says("GUEST-BOOT")

	t.Run("the same id a second time is refused", func(t *testing.T) {
		_, _, err := h.StartTask(task.TaskConfig)
		must.Error(t, err)
		must.Len(t, 1, emulators(h.dir))
	})
	t.Run("another process recovers it without the job's config", func(t *testing.T) {
		machine := task.emulator()
		h.process.signal(t, syscall.SIGKILL)
		next := launchIn(t, h.dir)
		must.NoError(t, next.configure(nil))
		must.NoError(t, handle.Config.EncodeConcreteDriverConfig(nil))
		must.NoError(t, next.RecoverTask(handle))
		must.True(t, machine.alive())
		must.NoError(t, next.RecoverTask(handle), must.Sprint("the same once more"))
		must.NoError(t, next.StopTask(task.ID, 10*time.Second, ""))
		must.NoError(t, next.DestroyTask(task.ID, true))
		must.SliceEmpty(t, emulators(h.dir))
	})
}

// P-24 D34 V-51: what may work at the next try is told apart from what never will, and neither leaves anything.
func TestP24_StartErrors(t *testing.T) {
	h := launch(t)
	big := bigImage(t, h)
	before := tree(t, filepath.Join(h.dir, "data"))
	for name, change := range map[string]map[string]any{
		"no image":             {"image": "/no/such/image.raw"},
		"image from elsewhere": {"image": "/etc/hostname"},
		"disk too small":       {"image": big, "primary_disk_size": 1},
		"bad machine":          {"os": []map[string]any{{"machine": "no-such-machine"}}},
		"bad host name":        {"hostname": "-dashes-"},
		"no such accelerator":  {"accelerator": "abacus"},
		"no disk at all":       {"image": nil, "primary_disk_size": nil, "use_thin_copy": nil},
		"an interface of no kind": {"network_interface": []map[string]any{
			{"bridge": []map[string]any{{"name": "virbr0"}}}, {},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			config := sectorConfig(t, obedient)
			for key, value := range change {
				config[key] = value
			}
			task := h.newTask("vm", config)
			_, _, err := h.StartTask(task.TaskConfig)
			must.Error(t, err)
			t.Log(err)
			must.False(t, structs.IsRecoverable(err), must.Sprintf("no retry can help: %v", err))
			must.SliceEmpty(t, emulators(h.dir))
			must.Eq(t, before, tree(t, filepath.Join(h.dir, "data")), must.Sprint("left in data_dir"))
			_, err = h.InspectTask(task.ID)
			must.Error(t, err)
			released := make(chan struct{})
			go func() {
				task.logEnd.Wait()
				close(released)
			}()
			select {
			case <-released:
			case <-time.After(patient(2 * time.Second)):
				t.Fatal("the log collector still waits for a writer")
			}
		})
	}
	t.Run("what may pass by itself is worth another try", func(t *testing.T) {
		h := launchIn(t, shortDir(t))
		one := []map[string]any{{"min": 1_900_000_000, "max": 1_900_000_000}}
		must.NoError(t, h.configure(map[string]any{"uid_range": one}))
		h.sectorTask("first", obedient).start()
		second := h.sectorTask("second", obedient)
		_, _, err := h.StartTask(second.TaskConfig)
		must.ErrorContains(t, err, "user id")
		must.True(t, structs.IsRecoverable(err), must.Sprintf("%#v", err))
		must.Len(t, 1, emulators(h.dir))
	})
}

// bigImage is a raw image of 3 MiB where a job may use it from.
func bigImage(t testing.TB, h *host) string {
	path := filepath.Join(h.dir, "data", "big.raw")
	must.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.NoError(t, os.WriteFile(path, make([]byte, 3<<20), 0o644))
	return path
}

// tree lists the files below a directory.
func tree(t testing.TB, dir string) []string {
	found := []string{}
	_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// P-25: names of tasks may hold whatever Nomad lets through.
func TestP25_OddNames(t *testing.T) {
	h := launch(t)
	for _, name := range []string{"with blank", "comma,comma", `quote"'`, "übergroß-名", "id=x,file=y", string(make128())} {
		task := h.sectorTask(name, obedient)
		task.start()
		task.says("GUEST-BOOT")
		must.NoError(t, h.DestroyTask(task.ID, true), must.Sprint(name))
	}
	must.SliceEmpty(t, emulators(h.dir))
}

func make128() []byte {
	name := make([]byte, 128)
	for i := range name {
		name[i] = byte('a' + i%26)
	}
	return name
}

// P-26 D35: WaitTask blocks until the end, answers alike for all, for ever, and maps every kind of end.
func TestP26_WaitTask(t *testing.T) {
	t.Run("the guest powers off: success, the same for all who ask", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", powersOff)
		task.start()
		results := make(chan *drivers.ExitResult, 3)
		for range 3 {
			go func() { results <- task.exit(30 * time.Second) }()
		}
		for range 3 {
			result := receive(t, results, 30*time.Second)
			must.True(t, result.Successful(), must.Sprintf("%+v", result))
		}
		must.SliceEmpty(t, emulators(h.dir), must.Sprint("it has ended when the answer comes"))
		must.True(t, task.exit(time.Second).Successful(), must.Sprint("asked again afterwards"))
	})
	t.Run("panic: a failure that says so", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", panics)
		task.start()
		result := task.exit(30 * time.Second)
		must.False(t, result.Successful())
		must.ErrorContains(t, result.Err, "panic")
	})
	t.Run("QEMU killed: signal 9, code 137", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", obedient)
		task.start()
		task.says("GUEST-BOOT")
		task.emulator().signal(t, syscall.SIGKILL)
		result := task.exit(10 * time.Second)
		must.False(t, result.Successful())
		must.Eq(t, 9, result.Signal)
		must.Eq(t, 137, result.ExitCode)
	})
	t.Run("a reset is no end", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", resets)
		task.start()
		eventually(t, 30*time.Second, "a second boot", func() error {
			if n := countIn(task.stdout.String(), "GUEST-BOOT"); n < 2 {
				return fmt.Errorf("%d boots", n)
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		waiting, err := h.WaitTask(ctx, task.ID)
		must.NoError(t, err)
		select {
		case result := <-waiting:
			// A cancelled wait may be told of by the channel, but never as an end of the task.
			must.True(t, result == nil || result.Err != nil, must.Sprintf("%+v", result))
		case <-time.After(patient(3 * time.Second)):
		}
		status, err := h.InspectTask(task.ID)
		must.NoError(t, err)
		must.Eq(t, drivers.TaskStateRunning, status.State)
	})
	t.Run("unknown id: an error", func(t *testing.T) {
		h := launch(t)
		results, err := h.WaitTask(context.Background(), "no/such/task")
		if err == nil {
			err = receive(t, results, 5*time.Second).Err
		}
		must.Error(t, err)
	})
}

func countIn(text, part string) int {
	count := 0
	for i := 0; i+len(part) <= len(text); i++ {
		if text[i:i+len(part)] == part {
			count++
		}
	}
	return count
}

// P-27: StopTask asks, waits at most the timeout, then forces; it is never an error.
func TestP27_StopTask(t *testing.T) {
	t.Run("an obedient guest powers off and that is success", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", obedient)
		task.start()
		task.says("GUEST-TICK")
		begin := time.Now()
		must.NoError(t, h.StopTask(task.ID, 20*time.Second, ""))
		must.Less(t, patient(10*time.Second), time.Since(begin))
		result := task.exit(5 * time.Second)
		must.True(t, result.Successful(), must.Sprintf("%+v", result))
		task.says("GUEST-BUTTON")
		must.NoError(t, h.StopTask(task.ID, time.Second, ""), must.Sprint("of an ended task"))
	})
	t.Run("a deaf guest is ended after the timeout", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", deaf)
		task.start()
		task.says("GUEST-TICK")
		begin := time.Now()
		must.NoError(t, h.StopTask(task.ID, 2*time.Second, ""))
		took := time.Since(begin)
		// A part of the timeout is kept for ending it.
		must.Between(t, time.Second, took, patient(4*time.Second))
		_ = task.exit(5 * time.Second)
		must.SliceEmpty(t, emulators(h.dir))
	})
	t.Run("timeout 0 ends at once", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", deaf)
		task.start()
		begin := time.Now()
		must.NoError(t, h.StopTask(task.ID, 0, ""))
		must.Less(t, patient(3*time.Second), time.Since(begin))
		_ = task.exit(5 * time.Second)
	})
	t.Run("SIGKILL as kill signal skips the asking", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", obedient)
		task.start()
		task.says("GUEST-TICK")
		begin := time.Now()
		must.NoError(t, h.StopTask(task.ID, 20*time.Second, "SIGKILL"))
		must.Less(t, patient(3*time.Second), time.Since(begin))
		must.StrNotContains(t, task.stdout.String(), "GUEST-BUTTON")
	})
	t.Run("an unknown task is fine", func(t *testing.T) {
		must.NoError(t, launch(t).StopTask("no/such/task", time.Second, ""))
	})
	t.Run("twice at once is fine", func(t *testing.T) {
		h := launch(t)
		task := h.sectorTask("vm", obedient)
		task.start()
		task.says("GUEST-TICK")
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- h.StopTask(task.ID, 10*time.Second, "") }()
		}
		for range 2 {
			must.NoError(t, receive(t, errs, 20*time.Second))
		}
	})
}

// P-28 D6 V-51: DestroyTask leaves nothing, and nothing without force that runs.
func TestP28_DestroyTask(t *testing.T) {
	h := launch(t)
	task := h.sectorTask("vm", obedient)
	task.start()
	task.says("GUEST-BOOT")
	must.Error(t, h.DestroyTask(task.ID, false))
	must.Len(t, 1, emulators(h.dir))
	must.NoError(t, h.DestroyTask(task.ID, true))
	must.SliceEmpty(t, emulators(h.dir))
	must.SliceEmpty(t, tree(t, filepath.Join(h.dir, "data", "vms")))
	entries, err := os.ReadDir(filepath.Join(h.dir, "run"))
	must.True(t, err != nil || len(entries) == 0, must.Sprintf("left in run_dir: %v", entries))
	for name, call := range map[string]func() error{
		"InspectTask": func() error { _, err := h.InspectTask(task.ID); return err },
		"SignalTask":  func() error { return h.SignalTask(task.ID, "SIGTERM") },
		"ExecTask":    func() error { _, err := h.ExecTask(task.ID, []string{"true"}, time.Second); return err },
	} {
		must.Error(t, call(), must.Sprint(name))
	}
	// Whether this one is an error is not looked at by anybody; it must not hang or crash.
	_ = h.DestroyTask(task.ID, true)
}

// P-29: InspectTask has every field, while it runs and afterwards.
func TestP29_InspectTask(t *testing.T) {
	h := launch(t)
	task := h.sectorTask("vm", powersOff)
	begin := time.Now()
	task.start()
	running, err := h.InspectTask(task.ID)
	must.NoError(t, err)
	must.Eq(t, task.ID, running.ID)
	must.Eq(t, "vm", running.Name)
	must.Eq(t, drivers.TaskStateRunning, running.State)
	must.Between(t, begin.Add(-time.Second).Unix(), running.StartedAt.Unix(), time.Now().Unix())
	must.True(t, running.CompletedAt.IsZero(), must.Sprintf("completed at %v", running.CompletedAt))
	must.MapNotEmpty(t, running.DriverAttributes)
	_ = task.exit(30 * time.Second)
	ended, err := h.InspectTask(task.ID)
	must.NoError(t, err)
	must.Eq(t, drivers.TaskStateExited, ended.State)
	must.False(t, ended.CompletedAt.Before(ended.StartedAt))
	must.True(t, ended.ExitResult.Successful())
}

// P-30: the first sample comes at once, the interval is kept, and the stream ends with the task.
func TestP30_TaskStats(t *testing.T) {
	h := launch(t)
	task := h.sectorTask("vm", obedient)
	task.start()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	samples, err := h.TaskStats(ctx, task.ID, 500*time.Millisecond)
	must.NoError(t, err)
	begin := time.Now()
	first := receive(t, samples, time.Second)
	must.Greater(t, 1<<20, int(first.ResourceUsage.MemoryStats.RSS))
	must.SliceContains(t, first.ResourceUsage.MemoryStats.Measured, "RSS")
	for range 3 {
		sample := receive(t, samples, 3*time.Second)
		must.SliceContains(t, sample.ResourceUsage.CpuStats.Measured, "Percent")
		must.Greater(t, first.Timestamp, sample.Timestamp)
	}
	must.Between(t, 1200*time.Millisecond, time.Since(begin), patient(3*time.Second))
	must.NoError(t, h.StopTask(task.ID, 0, ""))
	eventually(t, 5*time.Second, "end of the stream", func() error {
		select {
		case _, open := <-samples:
			if open {
				return fmt.Errorf("it still sends")
			}
			return nil
		case <-time.After(100 * time.Millisecond):
			return fmt.Errorf("it is silent, but open")
		}
	})
	unknown, err := h.TaskStats(ctx, "no/such/task", time.Second)
	must.NoError(t, err)
	select {
	case _, open := <-unknown:
		must.False(t, open)
	case <-time.After(patient(3 * time.Second)):
		t.Fatal("the stream for an unknown task stays open")
	}
}

// P-40: a machine that dies while no plugin is there is reported, and no stranger is taken for it.
func TestP40_DeathWhileNobodyWatched(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, machine process){
		"killed":      func(t *testing.T, machine process) { machine.signal(t, syscall.SIGKILL) },
		"powered off": nil,
	} {
		t.Run(name, func(t *testing.T) {
			h := launch(t)
			mode := obedient
			if end == nil {
				mode = powersOff
			}
			task := h.sectorTask("vm", mode)
			handle := task.start()
			task.says("GUEST-BOOT")
			machine := task.emulator()
			h.process.signal(t, syscall.SIGKILL)
			if end != nil {
				end(t, machine)
			}
			eventually(t, 10*time.Second, "end of the machine", func() error {
				if machine.alive() {
					return fmt.Errorf("%v lives", machine)
				}
				return nil
			})
			next := launchIn(t, h.dir)
			must.NoError(t, next.configure(nil))
			if err := next.RecoverTask(handle); err != nil {
				t.Logf("reported by an error: %v", err)
				must.NoError(t, next.DestroyTask(task.ID, true))
			} else {
				task.host = next
				result := task.exit(5 * time.Second)
				t.Logf("reported as %+v", result)
				must.Eq(t, end == nil, result.Successful(), must.Sprintf("%+v", result))
				must.NoError(t, next.DestroyTask(task.ID, true))
			}
			must.SliceEmpty(t, tree(t, filepath.Join(h.dir, "data", "vms")))
		})
	}
}
