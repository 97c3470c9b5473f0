package nomadtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// pluginPath is the executable under test, as scripts/build.ts makes it.
func pluginPath(t testing.TB) string { return fromEnv(t, "QMP_PLUGIN") }

// sectorImage is a guest of one boot sector; scripts/guests/sector.ts says what each mode does.
func sectorImage(t testing.TB, mode sectorMode) string {
	return filepath.Join(fromEnv(t, "QMP_SECTOR_IMAGES"), fmt.Sprintf("mode-%d.raw", mode))
}

type sectorMode int

const (
	obedient  sectorMode = 0 // ticks each second, powers off at the button
	deaf      sectorMode = 1 // hears no button
	powersOff sectorMode = 2 // by itself, after two seconds
	resets    sectorMode = 3
	chatty    sectorMode = 4 // floods the console
	faults    sectorMode = 5 // triple fault after two seconds
	panics    sectorMode = 6 // tells a panic device after two seconds
)

func fromEnv(t testing.TB, name string) string {
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: these tests are run by scripts/test.ts (npm test -- nomad)", name)
	}
	return value
}

// shortDir is a fresh directory with a short path, for socket paths have an end at 107 bytes.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/tmp", "nq")
	must.NoError(t, err)
	// The users that QEMU runs as walk through it to the image.
	must.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() {
		unmountBelow(t, dir)
		must.NoError(t, os.RemoveAll(dir))
	})
	return dir
}

// unmountBelow ends what a killed agent leaves mounted: two tmpfs for every task.
func unmountBelow(t testing.TB, dir string) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	must.NoError(t, err)
	lines := strings.Split(string(data), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		fields := strings.Fields(lines[i])
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			if err := syscall.Unmount(fields[4], syscall.MNT_DETACH); err != nil {
				t.Logf("unmount %s: %v", fields[4], err)
			}
		}
	}
}

// patient is a time limit for this machine as it is now: as given when it is idle, longer the more work waits for its
// cores, so that a limit says something of our code and not of what else runs.
func patient(limit time.Duration) time.Duration {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return limit
	}
	load, err := strconv.ParseFloat(strings.Fields(string(data))[0], 64)
	if err != nil {
		return limit
	}
	return time.Duration(float64(limit) * max(1, 2*load/float64(runtime.NumCPU())))
}

// eventually waits for a condition that comes by itself; what says the thing waited for, and why it is not there yet.
func eventually(t testing.TB, limit time.Duration, what string, ready func() error) {
	t.Helper()
	begin := time.Now()
	for {
		err := ready()
		if err == nil {
			return
		}
		if took := time.Since(begin); took > patient(limit) {
			t.Fatalf("%s: not within %v: %v", what, took, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// process is a pid that can be told from a later process with the same number.
type process struct {
	pid   int
	start string
}

func (p process) alive() bool { return startTime(p.pid) == p.start && p.start != "" }

func (p process) String() string { return fmt.Sprintf("process %d", p.pid) }

func (p process) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	must.True(t, p.alive(), must.Sprintf("%v should be alive", p))
	must.NoError(t, syscall.Kill(p.pid, signal))
}

// startTime is field 22 of /proc/PID/stat, or nothing when the process is gone or a zombie.
func startTime(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// processesWith are the living processes one of whose arguments holds the text.
func processesWith(text string) []process {
	var found []process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		data, err := os.ReadFile(dir + "/cmdline")
		if err != nil || pid == os.Getpid() || !bytes.Contains(data, []byte(text)) {
			continue
		}
		if start := startTime(pid); start != "" {
			found = append(found, process{pid, start})
		}
	}
	return found
}

// emulators are the QEMU processes of one test: those that hold a file below its directory open, for their arguments name
// nothing but descriptors.
func emulators(dir string) []process {
	var found []process
	exes, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range exes {
		exe, _ := os.Readlink(link)
		if !strings.HasPrefix(filepath.Base(exe), "qemu-system-") || !holds(filepath.Dir(link), dir) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if start := startTime(pid); start != "" {
			found = append(found, process{pid, start})
		}
	}
	return found
}

func holds(proc, dir string) bool {
	fds, _ := filepath.Glob(proc + "/fd/*")
	for _, fd := range fds {
		if path, _ := os.Readlink(fd); strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// endAll ends what a failed test left running.
func endAll(t testing.TB, dir string) {
	for _, p := range append(processesWith(dir), emulators(dir)...) {
		t.Logf("clean-up ends %v", p)
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}
