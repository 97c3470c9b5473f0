package nomadtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	plugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/helper/pluginutils/loader"
	"github.com/hashicorp/nomad/nomad/structs/config"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"github.com/shoenig/test/must"
	"google.golang.org/grpc"
)

// P-3: one handshake line on stdout, within two seconds, the server accepting already, and nothing after it.
func TestP3_OneHandshakeLine(t *testing.T) {
	for name, env := range map[string][]string{
		"as Nomad starts it":                   nil,
		"with an empty PATH and no HOME":       {"PATH=", "HOME="},
		"by a host that knows of multiplexing": {"PLUGIN_MULTIPLEX_GRPC=true"},
		"with options for node":                {"NODE_OPTIONS=--trace-warnings", "NODE_DEBUG=net"},
	} {
		t.Run(name, func(t *testing.T) {
			line, conn, stop := rawLaunch(t, env)
			pattern := `^1\|2\|unix\|(/[^|]{1,106})\|grpc\|(\|(true|false))?\n$`
			fields := regexp.MustCompile(pattern).FindStringSubmatch(line)
			must.NotNil(t, fields, must.Sprintf("the line is %q", line))
			must.Eq(t, strings.Contains(name, "multiplexing"), fields[2] != "")
			must.NoError(t, conn.Close())
			rest := stop()
			must.Eq(t, "", rest, must.Sprint("more on stdout"))
			_, err := os.Stat(fields[1])
			must.ErrorIs(t, err, os.ErrNotExist, must.Sprint("the socket after an orderly end"))
		})
	}
}

// rawLaunch starts the plugin without go-plugin. What comes back is the first line, a connection that proves that somebody
// listens, and a function that ends the plugin and returns what else it wrote to stdout.
func rawLaunch(t *testing.T, env []string) (string, net.Conn, func() string) {
	command := exec.Command(pluginPath(t))
	command.Dir = "/"
	command.Env = append(os.Environ(), "NOMAD_PLUGIN_MAGIC_COOKIE="+base.Handshake.MagicCookieValue, "PLUGIN_PROTOCOL_VERSIONS=2")
	command.Env = append(command.Env, env...)
	stdout, err := command.StdoutPipe()
	must.NoError(t, err)
	begin := time.Now()
	must.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill() })
	reader := bufio.NewReader(stdout)
	line, err := reader.ReadString('\n')
	took := time.Since(begin)
	must.NoError(t, err)
	must.Less(t, patient(2*time.Second), took)
	t.Logf("handshake after %v", took)
	conn, err := net.Dial("unix", strings.Split(line, "|")[3])
	must.NoError(t, err)
	return line, conn, func() string {
		must.NoError(t, command.Process.Signal(os.Signal(sigterm)))
		rest, err := io.ReadAll(reader)
		must.NoError(t, err)
		must.NoError(t, command.Wait(), must.Sprint("end after SIGTERM"))
		return string(rest)
	}
}

// P-10: bare connections come and go, a second client is served, and so is one that stays.
func TestP10_SeveralConnections(t *testing.T) {
	h := launch(t)
	address := h.client.ReattachConfig().Addr
	for range 20 {
		conn, err := net.Dial("unix", address.String())
		must.NoError(t, err)
		must.NoError(t, conn.Close())
	}
	second := reattach(t, h)
	info, err := second.PluginInfo()
	must.NoError(t, err)
	must.Eq(t, "virt", info.Name)
	must.NoError(t, second.conn.Close())
	_, err = h.PluginInfo()
	must.NoError(t, err)
}

// reattach is what an agent does that finds a plugin of its predecessor.
func reattach(t testing.TB, h *host) *host {
	t.Helper()
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  base.Handshake,
		Plugins:          pluginSet(),
		Reattach:         h.client.ReattachConfig(),
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           hclog.NewNullLogger(),
	})
	return attach(t, client, h.dir, h.log)
}

// P-11: an orderly end takes less than two seconds, with streams open and machines running, and leaves those alone.
func TestP11_ShutdownLeavesMachinesAlone(t *testing.T) {
	h := launch(t)
	task := h.sectorTask("vm", obedient)
	handle, _, err := h.StartTask(task.TaskConfig)
	must.NoError(t, err)
	task.says("GUEST-TICK")
	machine := task.emulator()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, open := range map[string]func() error{
		"fingerprint": func() error { _, err := h.Fingerprint(ctx); return err },
		"events":      func() error { _, err := h.TaskEvents(ctx); return err },
		"wait":        func() error { _, err := h.WaitTask(ctx, task.ID); return err },
		"stats":       func() error { _, err := h.TaskStats(ctx, task.ID, time.Second); return err },
	} {
		must.NoError(t, open(), must.Sprint(name))
	}
	begin := time.Now()
	h.client.Kill()
	must.Less(t, patient(2*time.Second), time.Since(begin))
	must.False(t, h.process.alive(), must.Sprint("the plugin"))
	must.True(t, machine.alive(), must.Sprint("the machine"))

	next := launchIn(t, h.dir)
	must.NoError(t, next.configure(nil))
	must.NoError(t, next.RecoverTask(handle))
	must.NoError(t, next.DestroyTask(task.ID, true))
	must.False(t, machine.alive(), must.Sprint("the machine after DestroyTask"))
}

// P-14: the plugin says what it is.
func TestP14_PluginInfo(t *testing.T) {
	h := launchIn(t, shortDir(t))
	info, err := h.PluginInfo()
	must.NoError(t, err)
	must.Eq(t, base.PluginTypeDriver, info.Type)
	must.Eq(t, "virt", info.Name)
	must.Eq(t, []string{drivers.ApiVersion010}, info.PluginApiVersions)
	must.RegexMatch(t, regexp.MustCompile(`^v?\d+\.\d+\.\d+(-[\w.]+)?$`), info.PluginVersion)
}

// V-3 V-44 V-46: blocks with labels, in the form that an agent's configuration has when Nomad decodes it.
func TestV44_StoragePools(t *testing.T) {
	h := launchIn(t, shortDir(t))
	block := func(content any) []any { return []any{content} }
	pools := func(path string) map[string]any {
		return map[string]any{
			"provider": block(map[string]any{"libvirt": block(map[string]any{"uri": "qemu:///system"})}),
			"storage_pools": block(map[string]any{
				"default": "local",
				"directory": []any{
					map[string]any{"local": block(map[string]any{"path": path})},
					map[string]any{"fast": block(map[string]any{"path": "/srv/fast"})},
				},
				"ceph": block(map[string]any{"remote": block(map[string]any{
					"pool":           "vms",
					"hosts":          []string{"192.0.2.1:6789"},
					"authentication": block(map[string]any{"username": "nomad", "secret": "c2VjcmV0"}),
				})}),
			}),
			"image_store": block(map[string]any{"max_size": "1GiB"}),
		}
	}
	must.NoError(t, h.configure(pools("/srv/local")))
	must.ErrorContains(t, h.configure(pools("local")), "storage_pools.directory.local.path: must be an absolute path")
}

// P-15: Nomad can read both schemas.
func TestP15_SchemasConvert(t *testing.T) {
	h := launchIn(t, shortDir(t))
	for name, ask := range map[string]func() (*hclspec.Spec, error){"plugin": h.ConfigSchema, "task": h.TaskConfigSchema} {
		schema, err := ask()
		must.NoError(t, err, must.Sprint(name))
		_, diagnostics := hclspecutils.Convert(schema)
		must.Len(t, 0, diagnostics, must.Sprint(name))
		for key, field := range schema.GetObject().GetAttributes() {
			for _, attr := range []*hclspec.Attr{field.GetAttr(), field.GetDefault().GetPrimary().GetAttr()} {
				free := strings.HasPrefix(attr.GetType(), "map(") || strings.HasPrefix(attr.GetType(), "object(")
				must.False(t, free, must.Sprintf("%s: a %s cannot be written as a block", key, attr.GetType()))
			}
		}
	}
}

// P-16: SetConfig may come again, without the agent's part, empty, or with keys of another version.
func TestP16_SetConfig(t *testing.T) {
	h := launchIn(t, shortDir(t))
	must.NoError(t, h.configure(nil))
	must.NoError(t, h.configure(nil), must.Sprint("the same again"))
	empty := launchIn(t, shortDir(t))
	must.NoError(t, empty.SetConfig(&base.Config{ApiVersion: drivers.ApiVersion010}), must.Sprint("no bytes, no agent part"))
	var data []byte
	must.NoError(t, base.MsgPackEncode(&data, map[string]any{"data_dir": h.dir + "/data", "of_tomorrow": 7}))
	must.NoError(t, empty.SetConfig(&base.Config{ApiVersion: drivers.ApiVersion010, PluginConfig: data}), must.Sprint("an unknown key"))

	err := h.configure(map[string]any{"data_dir": "not/absolute", "image_paths": []string{"/ok", "bad"}})
	must.ErrorContains(t, err, "data_dir")
	must.ErrorContains(t, err, "image_paths[1]")
	err = h.configure(map[string]any{"log_level": "loud"})
	must.ErrorContains(t, err, "log_level")
}

// The loader is what the agent starts with: scan, three launches, schema, configuration.
func TestP1_LoaderTakesThePlugin(t *testing.T) {
	dir := shortDir(t)
	// The agent of this version forgets a plugin whose SetConfig fails.
	t.Cleanup(func() { endAll(t, dir) })
	plugins := filepath.Join(dir, "plugins")
	must.NoError(t, os.Mkdir(plugins, 0o755))
	must.NoError(t, os.Symlink(pluginPath(t), filepath.Join(plugins, "nomad-driver-qmp")))
	load := func(change map[string]any) (*loader.PluginLoader, error) {
		settings := pluginConfig(t, dir)
		for key, value := range change {
			settings[key] = value
		}
		return loader.NewPluginLoader(&loader.PluginLoaderConfig{
			Logger:            hclog.NewNullLogger(),
			PluginDir:         plugins,
			Configs:           []*config.PluginConfig{{Name: "nomad-driver-qmp", Config: settings}},
			SupportedVersions: loader.AgentSupportedApiVersions,
		})
	}
	loaded, err := load(nil)
	must.NoError(t, err)
	instance, err := loaded.Dispense("virt", base.PluginTypeDriver, &base.AgentConfig{Driver: &base.ClientDriverConfig{}}, hclog.NewNullLogger())
	must.NoError(t, err)
	driver := instance.Plugin().(drivers.DriverPlugin)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	prints, err := driver.Fingerprint(ctx)
	must.NoError(t, err)
	first := receive(t, prints, 5*time.Second)
	must.Eq(t, drivers.HealthStateHealthy, first.Health, must.Sprintf("%+v", first))
	begin := time.Now()
	instance.Kill()
	must.Less(t, patient(2*time.Second), time.Since(begin))

	for name, change := range map[string]map[string]any{
		"unknown key": {"no_such_key": 1}, "wrong type": {"image_paths": 7}, "bad value": {"data_dir": "relative"},
	} {
		_, err := load(change)
		must.Error(t, err, must.Sprint(name))
		// The loader leaves it to the plugin to end.
		eventually(t, 10*time.Second, "the end of the plugin", func() error {
			if left := processesWith(plugins); len(left) > 0 {
				return fmt.Errorf("%v", left)
			}
			return nil
		})
	}
}

func receive[T any](t testing.TB, from <-chan T, limit time.Duration) T {
	t.Helper()
	select {
	case value, open := <-from:
		must.True(t, open, must.Sprint("the channel is closed"))
		return value
	case <-time.After(patient(limit)):
		t.Fatalf("nothing came within %v", limit)
		panic("unreachable")
	}
}

// Another name is answered to by an argument, for jobs written for another driver.
func TestDriverNameIsAnArgument(t *testing.T) {
	command := exec.Command(pluginPath(t), "--driver-name", "nomad-driver-virt")
	client := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: base.Handshake, Plugins: pluginSet(), Cmd: command,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, Logger: hclog.NewNullLogger(),
	})
	defer client.Kill()
	h := attach(t, client, "", &lockedBuffer{})
	info, err := h.PluginInfo()
	must.NoError(t, err)
	must.Eq(t, "nomad-driver-virt", info.Name)
}

// P-12: unknown methods and broken messages are answered, with neither of the two codes that mean "plugin gone".
func TestP12_OddCallsDoNoHarm(t *testing.T) {
	h := launch(t)
	ctx, cancel := context.WithTimeout(context.Background(), patient(10*time.Second))
	defer cancel()
	for _, method := range []string{
		"/no.such.Service/Method",
		"/hashicorp.nomad.plugins.drivers.proto.Driver/NoSuchMethod",
		"/hashicorp.nomad.plugins.drivers.proto.Driver/StartTask",
		"/hashicorp.nomad.plugins.drivers.proto.Driver/RecoverTask",
		"/hashicorp.nomad.plugins.drivers.proto.Driver/ExecTask",
	} {
		for name, body := range map[string][]byte{"empty": {}, "rubbish": {0xff, 0xff, 0xff, 0xff}, "cut": {0x0a, 0x7f, 0x01}} {
			err := h.conn.Invoke(ctx, method, &rawMessage{body}, &rawMessage{}, grpc.ForceCodec(rawCodec{}))
			must.Error(t, err, must.Sprintf("%s with %s bytes", method, name))
			code := grpcCode(err)
			must.False(t, code == 1 || code == 14, must.Sprintf("%s with %s bytes: %v", method, name, err))
		}
	}
	_, err := h.PluginInfo()
	must.NoError(t, err)
}

type rawMessage struct{ bytes []byte }

type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(message any) ([]byte, error) {
	if raw, ok := message.(*rawMessage); ok {
		return raw.bytes, nil
	}
	return nil, fmt.Errorf("no raw message: %T", message)
}

func (rawCodec) Unmarshal(data []byte, message any) error {
	if raw, ok := message.(*rawMessage); ok {
		raw.bytes = data
		return nil
	}
	return fmt.Errorf("no raw message: %T", message)
}
