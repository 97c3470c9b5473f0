package nomadtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"
)

// V-39 V-40 V-42 V-44 V-52: disk blocks in Nomad's own encoding: in a pool, in a volume, and one that is a CD-ROM.
func TestV39_DiskBlocks(t *testing.T) {
	h := launchIn(t, shortDir(t))
	pool := filepath.Join(h.dir, "pool")
	volume := filepath.Join(h.dir, "volume")
	must.NoError(t, os.Mkdir(volume, 0o755))
	must.NoError(t, h.configure(map[string]any{
		"storage_pools": []any{map[string]any{"directory": []any{map[string]any{"local": []any{map[string]any{"path": pool}}}}}},
	}))
	source := []any{map[string]any{"image": sectorImage(t, obedient)}}
	config := map[string]any{
		"vcpus":       1,
		"accelerator": "tcg",
		"disk": []any{
			map[string]any{"kind": "cdrom", "source": source},
			map[string]any{"source": source, "chained": true, "size": "1MiB", "primary": true},
			map[string]any{"volume": "/data", "size": "2MB", "format": "raw", "serial": "data"},
		},
	}
	start := func() *task {
		task := h.newTask("vm", config)
		task.Mounts = []*drivers.MountConfig{{TaskPath: "/data", HostPath: volume}}
		task.start()
		task.says("GUEST-BOOT")
		return task
	}
	task := start()
	inspected, err := h.InspectTask(task.ID)
	must.NoError(t, err)
	attributes := inspected.DriverAttributes
	must.Eq(t, pool, filepath.Dir(filepath.Dir(attributes["disk.vda.path"])))
	must.Eq(t, "qcow2", attributes["disk.vda.format"])
	must.Eq(t, sectorImage(t, obedient), attributes["disk.sda.path"])
	must.Eq(t, filepath.Join(volume, "vdb.raw"), attributes["disk.vdb.path"])
	must.NoError(t, h.DestroyTask(task.ID, true))

	left, err := os.ReadDir(filepath.Join(pool, "vms"))
	must.NoError(t, err)
	must.SliceEmpty(t, left)
	kept := filepath.Join(volume, "vdb.raw")
	must.NoError(t, os.WriteFile(kept, append([]byte("data of the first VM"), make([]byte, 2_002_944-20)...), 0o600))
	must.NoError(t, h.DestroyTask(start().ID, true))
	content, err := os.ReadFile(kept)
	must.NoError(t, err)
	must.StrHasPrefix(t, "data of the first VM", string(content))
}
