package nomadtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"github.com/shoenig/test/must"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/msgpack"
	"google.golang.org/grpc"
)

// host is Nomad's side of one plugin process, by Nomad's own client code.
type host struct {
	drivers.DriverPlugin
	t       testing.TB
	dir     string
	client  *plugin.Client
	conn    *grpc.ClientConn
	log     *lockedBuffer
	process process
}

// lockedBuffer takes log lines from several goroutines.
type lockedBuffer struct {
	mutex sync.Mutex
	data  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.data.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.data.String()
}

// launch starts a plugin in a directory of its own and configures it as the agent would.
func launch(t testing.TB) *host {
	t.Helper()
	h := launchIn(t, shortDir(t))
	must.NoError(t, h.configure(nil))
	return h
}

// launchIn starts a plugin that shares a directory with others and leaves it without configuration.
func launchIn(t testing.TB, dir string) *host {
	t.Helper()
	log := &lockedBuffer{}
	command := exec.Command(pluginPath(t))
	command.Dir = "/"
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  base.Handshake,
		Plugins:          pluginSet(),
		Cmd:              command,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Trace}),
	})
	h := attach(t, client, dir, log)
	t.Cleanup(func() {
		client.Kill()
		endAll(t, dir)
		if t.Failed() {
			t.Logf("log of the plugin:\n%s", log)
		}
	})
	return h
}

func pluginSet() map[string]plugin.Plugin {
	return map[string]plugin.Plugin{
		base.PluginTypeBase:   &base.PluginBase{},
		base.PluginTypeDriver: drivers.NewDriverPlugin(nil, hclog.NewNullLogger()),
	}
}

func attach(t testing.TB, client *plugin.Client, dir string, log *lockedBuffer) *host {
	t.Helper()
	protocol, err := client.Client()
	must.NoError(t, err, must.Sprintf("%s", log))
	raw, err := protocol.Dispense(base.PluginTypeDriver)
	must.NoError(t, err)
	driver, ok := raw.(drivers.DriverPlugin)
	must.True(t, ok)
	pid := client.ReattachConfig().Pid
	return &host{
		DriverPlugin: driver,
		t:            t,
		dir:          dir,
		client:       client,
		conn:         protocol.(*plugin.GRPCClient).Conn,
		log:          log,
		process:      process{pid, startTime(pid)},
	}
}

// configure sends a plugin configuration through Nomad's own conversion; keys given replace those every test has.
func (h *host) configure(change map[string]any) error {
	schema, err := h.ConfigSchema()
	must.NoError(h.t, err)
	config := pluginConfig(h.t, h.dir)
	for key, value := range change {
		config[key] = value
	}
	value, err := convert(schema, config)
	if err != nil {
		return err
	}
	data, err := msgpack.Marshal(value, value.Type())
	must.NoError(h.t, err)
	return h.SetConfig(&base.Config{
		ApiVersion:   drivers.ApiVersion010,
		PluginConfig: data,
		AgentConfig: &base.AgentConfig{
			Driver: &base.ClientDriverConfig{ClientMinPort: 14000, ClientMaxPort: 14512},
		},
	})
}

// pluginConfig keeps one test's VMs apart from all others and allows machines of a few MiB.
func pluginConfig(t testing.TB, dir string) map[string]any {
	return map[string]any{
		"data_dir":    filepath.Join(dir, "data"),
		"run_dir":     filepath.Join(dir, "run"),
		"image_paths": []string{fromEnv(t, "QMP_SECTOR_IMAGES")},
		"log_level":   "trace",
		"limits":      []map[string]any{{"min_memory_mb": 16, "min_disk_mb": 1}},
	}
}

// convert is what Nomad does to a config block before a plugin sees it.
func convert(schema *hclspec.Spec, config any) (cty.Value, error) {
	spec, diagnostics := hclspecutils.Convert(schema)
	if diagnostics.HasErrors() {
		return cty.NilVal, diagnostics
	}
	value, diagnostics, _ := hclutils.ParseHclInterface(config, spec, nil)
	if diagnostics.HasErrors() {
		return cty.NilVal, diagnostics
	}
	return value, nil
}

// task is one task's side of the host: its directories, its logs, its configuration.
type task struct {
	*drivers.TaskConfig
	host   *host
	logEnd sync.WaitGroup // both readers of the logs
	stdout *lockedBuffer
	stderr *lockedBuffer
}

// newTask makes directories and log FIFOs as the agent does, with a reader on each FIFO.
func (h *host) newTask(name string, config map[string]any) *task {
	h.t.Helper()
	schema, err := h.TaskConfigSchema()
	must.NoError(h.t, err)
	value, err := convert(schema, config)
	must.NoError(h.t, err)
	alloc := uuid.Generate()
	allocDir := filepath.Join(h.dir, "alloc", alloc)
	logs := filepath.Join(allocDir, "alloc", "logs")
	for _, dir := range []string{logs, filepath.Join(allocDir, name, "local"), filepath.Join(allocDir, name, "secrets")} {
		must.NoError(h.t, os.MkdirAll(dir, 0o777))
	}
	made := &task{
		host:   h,
		stdout: &lockedBuffer{},
		stderr: &lockedBuffer{},
		TaskConfig: &drivers.TaskConfig{
			ID:            fmt.Sprintf("%s/%s/%s", alloc, name, uuid.Short()),
			AllocID:       alloc,
			Name:          name,
			JobName:       "job",
			JobID:         "job",
			TaskGroupName: "group",
			Namespace:     "default",
			NodeName:      "node",
			NodeID:        uuid.Generate(),
			Env:           map[string]string{"NOMAD_TASK_NAME": name},
			AllocDir:      allocDir,
			StdoutPath:    filepath.Join(logs, "."+name+".stdout.fifo"),
			StderrPath:    filepath.Join(logs, "."+name+".stderr.fifo"),
			Resources: &drivers.Resources{
				NomadResources: &structs.AllocatedTaskResources{
					Cpu:    structs.AllocatedCpuResources{CpuShares: 100},
					Memory: structs.AllocatedMemoryResources{MemoryMB: 32},
				},
				LinuxResources: &drivers.LinuxResources{CPUShares: 100, MemoryLimitBytes: 32 << 20},
				Ports:          &structs.AllocatedPorts{},
			},
		},
	}
	must.NoError(h.t, made.EncodeDriverConfig(value))
	made.follow(made.StdoutPath, made.stdout)
	made.follow(made.StderrPath, made.stderr)
	return made
}

// follow reads a FIFO as the agent's log collector does: from the first writer to the last.
func (task *task) follow(path string, into io.Writer) {
	t := task.host.t
	must.NoError(t, syscall.Mkfifo(path, 0o600))
	task.logEnd.Add(1)
	go func() {
		defer task.logEnd.Done()
		file, err := os.OpenFile(path, os.O_RDONLY, 0)
		if err != nil {
			return
		}
		defer file.Close()
		_, _ = io.Copy(into, file)
	}()
	t.Cleanup(func() {
		// Lets a reader go that no writer ever came to.
		if file, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			_ = file.Close()
		}
	})
}

// sectorTask is a task that boots the one-sector guest.
func (h *host) sectorTask(name string, mode sectorMode) *task {
	return h.newTask(name, sectorConfig(h.t, mode))
}

func sectorConfig(t testing.TB, mode sectorMode) map[string]any {
	return map[string]any{
		"image":             sectorImage(t, mode),
		"primary_disk_size": 1,
		"use_thin_copy":     true,
		"vcpus":             1,
		"accelerator":       "tcg",
	}
}

// start starts the task and sees to its end.
func (task *task) start() *drivers.TaskHandle {
	task.host.t.Helper()
	handle, _, err := task.host.StartTask(task.TaskConfig)
	must.NoError(task.host.t, err)
	task.host.t.Cleanup(func() { _ = task.host.DestroyTask(task.ID, true) })
	return handle
}

// says waits for a text on the guest's console.
func (task *task) says(text string) {
	task.host.t.Helper()
	eventually(task.host.t, 20*time.Second, fmt.Sprintf("%q in the log", text), func() error {
		if log := task.stdout.String(); !strings.Contains(log, text) {
			return fmt.Errorf("stdout is %q, stderr %q", tail(log, 300), tail(task.stderr.String(), 600))
		}
		return nil
	})
}

func tail(text string, length int) string {
	return text[max(0, len(text)-length):]
}

// exit waits for the end of the task, by a call of its own.
func (task *task) exit(limit time.Duration) *drivers.ExitResult {
	task.host.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient(limit))
	defer cancel()
	results, err := task.host.WaitTask(ctx, task.ID)
	must.NoError(task.host.t, err)
	select {
	case result := <-results:
		must.NotNil(task.host.t, result)
		return result
	case <-ctx.Done():
		task.host.t.Fatalf("task %s has not ended within %v", task.ID, limit)
		return nil
	}
}

// emulator is the one QEMU of this task.
func (task *task) emulator() process {
	task.host.t.Helper()
	found := emulators(task.host.dir)
	must.Len(task.host.t, 1, found, must.Sprint("QEMU processes of this test"))
	return found[0]
}
