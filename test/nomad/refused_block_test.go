package nomadtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// P-16: an agent whose plugin block has a mistake does not start: its log names the mistake, and no process of the plugin stays.
func TestP16_RefusedPluginBlock(t *testing.T) {
	for name, mistake := range map[string]struct{ block, reported string }{
		"two values":         {"config {\n data_dir = \"not/absolute\"\n log_level = \"loud\"\n}", `log_level: must be one of .*data_dir: must be an absolute path`},
		"a value of a block": {"config {\n managed_network {\n bridge = \"b0\"\n address = \"10.0.0.1\"\n}\n}", `managed_network`},
		"a key":              {`config { no_such_key = 1 }`, `no_such_key`},
		"a type":             {`config { image_paths = 7 }`, `image_paths`},
		"an argument":        {`args = ["--drivername", "virt"]`, `the arguments are --driver-name NAME, .*: Unknown option .--drivername.`},
		"a driver's name":    {`args = ["--driver-name", "a b"]`, `--driver-name: "a b" is not a driver name`},
	} {
		t.Run(name, func(t *testing.T) {
			log, plugins := agentRefused(t, mistake.block)
			must.RegexMatch(t, regexp.MustCompile(mistake.reported), log)
			must.SliceEmpty(t, processesWith(plugins))
		})
	}
}

// agentRefused starts an agent with such a plugin block and waits for its end, and for that of the plugin.
func agentRefused(t *testing.T, block string) (log, plugins string) {
	t.Helper()
	dir := shortDir(t)
	number := int(clientCount.Add(1))
	plugins = filepath.Join(dir, "plugins")
	must.NoError(t, os.Mkdir(plugins, 0o755))
	must.NoError(t, os.Symlink(pluginPath(t), plugins+"/nomad-driver-qmp"))
	a := &agent{t: t, dir: dir, config: dir + "/client.hcl", log: dir + "/log"}
	must.NoError(t, os.WriteFile(a.config, []byte(agentConfig(fmt.Sprintf("c%d", number), dir, serverPorts+1000+10*number)+fmt.Sprintf(`
plugin_dir = %q
client {
  enabled = true
  servers = ["127.0.0.1:%d"]
}
plugin "nomad-driver-qmp" {
  %s
}
`, plugins, serverPorts+1, block)), 0o600))
	t.Cleanup(func() { endAll(t, dir) })
	a.begin()
	select {
	case <-a.exited:
	case <-time.After(patient(60 * time.Second)):
		a.end(syscall.SIGINT)
		t.Error("the agent started")
	}
	eventually(t, 10*time.Second, "the end of the plugin", func() error {
		if left := processesWith(plugins); len(left) > 0 {
			return fmt.Errorf("%v", left)
		}
		return nil
	})
	data, err := os.ReadFile(a.log)
	must.NoError(t, err)
	return string(data), plugins
}
