package nomadtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"
)

// P-41 and P-43: a hundred machines, each with an open WaitTask and an open TaskStats; the plugin dies, the next one takes
// each of them over in less than a second, and nothing of them is left in the end.
func TestP43_HundredTasks(t *testing.T) {
	const count = 100
	h := launch(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events, err := h.TaskEvents(ctx)
	must.NoError(t, err)
	go func() {
		for range events {
		}
	}()
	tasks := make([]*task, count)
	handles := make([]*drivers.TaskHandle, count)
	for i := range tasks {
		tasks[i] = h.sectorTask(fmt.Sprintf("vm%d", i), obedient)
	}
	begin := time.Now()
	inParallel(t, 4, count, func(i int) error {
		handle, _, err := h.StartTask(tasks[i].TaskConfig)
		handles[i] = handle
		return err
	})
	t.Logf("started within %v", time.Since(begin))
	must.Len(t, count, emulators(h.dir))

	stats := make([]<-chan *drivers.TaskResourceUsage, count)
	ends := make([]<-chan *drivers.ExitResult, count)
	for i, task := range tasks {
		stats[i], err = h.TaskStats(ctx, task.ID, time.Second)
		must.NoError(t, err)
		ends[i], err = h.WaitTask(ctx, task.ID)
		must.NoError(t, err)
	}
	for i := range tasks {
		for range 2 {
			sample := receive(t, stats[i], 20*time.Second)
			must.Greater(t, 0, sample.ResourceUsage.MemoryStats.RSS)
		}
		select {
		case result := <-ends[i]:
			t.Fatalf("task %d has ended: %+v", i, result)
		default:
		}
	}
	t.Logf("the plugin has %d descriptors and %s", len(descriptors(h.process)), residentMemory(h.process))

	h.process.signal(t, syscall.SIGKILL)
	next := launchIn(t, h.dir)
	must.NoError(t, next.configure(nil))
	slowest := time.Duration(0)
	for i := range tasks {
		begin := time.Now()
		must.NoError(t, next.RecoverTask(handles[i]))
		slowest = max(slowest, time.Since(begin))
	}
	t.Logf("slowest RecoverTask: %v", slowest)
	must.Less(t, patient(time.Second), slowest)
	must.Len(t, count, emulators(h.dir))

	before := len(descriptors(next.process))
	inParallel(t, 8, count, func(i int) error {
		if err := next.StopTask(tasks[i].ID, 20*time.Second, ""); err != nil {
			return err
		}
		return next.DestroyTask(tasks[i].ID, true)
	})
	must.SliceEmpty(t, emulators(h.dir))
	must.SliceEmpty(t, tree(t, filepath.Join(h.dir, "data", "vms")))
	must.SliceEmpty(t, processesWith(filepath.Join(h.dir, "run")), must.Sprint("helpers of machines"))
	after := len(descriptors(next.process))
	t.Logf("descriptors: %d with all machines, %d without", before, after)
	must.Less(t, 60, after)
}

// inParallel does a thing for each number below count, some at a time, and stops at nothing but reports every error.
func inParallel(t testing.TB, width, count int, do func(i int) error) {
	t.Helper()
	numbers := make(chan int)
	errs := make(chan error)
	for range width {
		go func() {
			for i := range numbers {
				errs <- do(i)
			}
		}()
	}
	go func() {
		for i := range count {
			numbers <- i
		}
		close(numbers)
	}()
	failed := []string{}
	for range count {
		if err := <-errs; err != nil {
			failed = append(failed, err.Error())
		}
	}
	must.SliceEmpty(t, failed)
}

func descriptors(p process) []string {
	found, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid))
	return found
}

func residentMemory(p process) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, "VmRSS") {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return "no VmRSS"
}
