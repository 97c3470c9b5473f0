package nomadtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// cephCluster is a Ceph of one node that lives as long as the test.
type cephCluster struct {
	t    testing.TB
	dir  string
	Pool struct {
		Pool     string
		Username string
		Secret   string
		Hosts    []struct {
			Host string
			Port int
		}
	}
}

func newCephCluster(t testing.TB) *cephCluster {
	t.Helper()
	for _, program := range []string{"ceph-mon", "ceph-osd", "rbd"} {
		if _, err := exec.LookPath(program); err != nil && os.Getenv("CI") == "" {
			t.Skipf("there is no %s on this host", program)
		}
	}
	cluster := &cephCluster{t: t, dir: filepath.Join(shortDir(t), "ceph")}
	must.NoError(t, os.Mkdir(cluster.dir, 0o700))
	node, err := exec.LookPath("node")
	must.NoError(t, err)
	program, err := filepath.Abs("../support/ceph-process.ts")
	must.NoError(t, err)
	command := exec.Command(node, program, cluster.dir)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	must.NoError(t, err)
	output, err := command.StdoutPipe()
	must.NoError(t, err)
	must.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = input.Close()
		must.NoError(t, command.Wait())
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	must.NoError(t, err, must.Sprint("the cluster did not start"))
	must.NoError(t, json.Unmarshal([]byte(line), &cluster.Pool))
	return cluster
}

// rbd runs the program as the administrator of the cluster, and gives its output.
func (it *cephCluster) rbd(args ...string) string {
	it.t.Helper()
	command := exec.Command("rbd", args...)
	command.Env = append(os.Environ(), "CEPH_CONF="+it.dir+"/ceph.conf")
	output, err := command.CombinedOutput()
	must.NoError(it.t, err, must.Sprint(string(output)))
	return strings.TrimSpace(string(output))
}

// block is the cluster as the agent's configuration has it.
func (it *cephCluster) block() string {
	var hosts []string
	for _, one := range it.Pool.Hosts {
		hosts = append(hosts, fmt.Sprintf("%q", fmt.Sprintf("%s:%d", one.Host, one.Port)))
	}
	return fmt.Sprintf(`storage_pools {
      ceph "shared" {
        pool  = %q
        hosts = [%s]
        authentication {
          username = %q
          secret   = %q
        }
      }
    }
    `, it.Pool.Pool, strings.Join(hosts, ", "), it.Pool.Username, it.Pool.Secret)
}

// V-46 V-51 V-54 V-55: a guest boots from a clone in a Ceph cluster, beside a disk of its own there, under a real agent; the disk grows and is backed up while the guest runs; both outlive a crash of the agent, and go with the allocation.
func TestV46_DisksInCeph(t *testing.T) {
	cluster := newCephCluster(t)
	image := tinyImage(t)
	golden := filepath.Join(filepath.Dir(image), "disk.raw")
	cluster.rbd("import", "--no-progress", golden, "vms/golden")
	cluster.rbd("snap", "create", "--no-progress", "vms/golden@v1")
	cluster.rbd("snap", "protect", "vms/golden@v1")
	c := newClientPrepared(t, func(c *client) {
		text := readText(t, c.config)
		must.NoError(t, os.WriteFile(c.config, []byte(strings.Replace(text, "limits {", cluster.block()+"limits {", 1)), 0o600))
	}, "nomad-driver-qmp")
	job := c.newJob("ceph", jobParts{image: image, memory: 160}).withDisks(image, `disk {
          primary = true
          chained = true
          pool    = "shared"
          source { volume = "golden@v1" }
        }
        disk {
          pool   = "shared"
          size   = "6MiB"
          serial = "data"
        }`).run()
	alloc := job.becomes("running", 60*time.Second)
	job.says("TINY-READY")
	must.StrContains(t, job.inGuest(alloc, listDisks), "12288 0 data")
	job.inGuest(alloc, "printf written | dd of=/dev/vdb conv=fsync")
	must.Eq(t, "vdb has 9437184 bytes now\n", c.operator("disk", "resize", alloc.ID, "vdb", "9MiB"))
	must.StrContains(t, job.inGuest(alloc, listDisks), "18432 0 data")
	backup := filepath.Join(cluster.dir, "vdb.qcow2")
	must.StrContains(t, c.operator("disk", "backup", alloc.ID, "vdb", backup), "vdb was backed up to "+backup+", ")
	raw := filepath.Join(cluster.dir, "vdb.raw")
	must.NoError(t, exec.Command("qemu-img", "convert", "-f", "qcow2", "-O", "raw", backup, raw).Run())
	must.StrHasPrefix(t, "written", readText(t, raw))
	images := strings.Fields(cluster.rbd("ls", "vms"))
	must.SliceLen(t, 3, images)
	disk := images[2]
	must.StrHasSuffix(t, "_vdb", disk)
	must.StrContains(t, cluster.rbd("info", "vms/"+images[1]), "parent: vms/golden@v1")

	machine := c.emulator()
	c.end(9)
	c.begin()
	c.ready()
	job.becomes("running", 30*time.Second)
	must.Eq(t, machine, c.emulator())
	must.Eq(t, "written", job.inGuest(alloc, "head -c 7 /dev/vdb"))
	exported := filepath.Join(cluster.dir, "exported")
	cluster.rbd("export", "--no-progress", "vms/"+disk, exported)
	must.StrHasPrefix(t, "written", readText(t, exported))
	job.stop()
	job.becomes("complete", 60*time.Second)
	eventually(t, 30*time.Second, "the pool without the images of the VM", func() error {
		if left := cluster.rbd("ls", "vms"); left != "golden" {
			return fmt.Errorf("there are %s", left)
		}
		return nil
	})
}
