package nomadtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/jobspec2"
	"github.com/hashicorp/nomad/nomad/structs/config"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/shoenig/test/must"
	"github.com/zclconf/go-cty/cty/msgpack"
)

// corpusClient is an agent as a host of nomad-driver-virt has it: on virbr0, with images in a directory of the host and
// the plugin blocks given, under the names that they have.
func corpusClient(t testing.TB, blocks, more string, names ...string) *client {
	t.Helper()
	return newClientPrepared(t, func(c *client) {
		c.bridge = "virbr0"
		text := readText(t, c.config)
		own, _, _ := strings.Cut(text, `plugin "`)
		must.NoError(t, os.WriteFile(c.config, []byte(own+c.corpusText(blocks)), 0o600))
		c.more = c.dir + "/more.hcl"
		// Guests have the memory and the shares that they had, most of which they never use.
		must.NoError(t, os.WriteFile(c.more, []byte(c.corpusText("client {\n memory_total_mb = 65536\n cpu_total_compute = 64000\n"+more+"\n}\n")), 0o600))
	}, names...)
}

// corpusText puts the places of this test in the place of the usual ones.
func (c *client) corpusText(text string) string {
	return strings.NewReplacer(
		"/var/local/statics/images/", filepath.Dir(tinyImage(c.t))+"/",
		"/var/local/statics/uefi/", filepath.Dir(os.Getenv("QMP_TINY_UEFI_IMAGE"))+"/",
		"/var/lib/virt", c.dir+"/data",
		"/run/virt", c.dir+"/run",
		"/srv/", c.dir+"/volumes/",
	).Replace(text)
}

// corpusMirror serves the small guest under the names that jobs fetch their images by.
func corpusMirror(t testing.TB) *httptest.Server {
	t.Helper()
	image, err := os.ReadFile(tinyImage(t))
	must.NoError(t, err)
	serve := func(content []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, request *http.Request) {
			http.ServeContent(w, request, filepath.Base(request.URL.Path), time.Time{}, bytes.NewReader(content))
		}
	}
	routes := http.NewServeMux()
	routes.HandleFunc("/", serve(image))
	routes.HandleFunc("/el7.vmdk", serve(asVmdk(t)))
	routes.HandleFunc("/hassos_ova.qcow2.gz", serve(compressed(t, image)))
	routes.HandleFunc("/Win2022_20324.qcow2.tgz", serve(archive(t, "Win2022_20324.qcow2", image)))
	mirror := httptest.NewServer(routes)
	t.Cleanup(mirror.Close)
	return mirror
}

// asVmdk is the small guest as VMware exports it.
func asVmdk(t testing.TB) []byte {
	t.Helper()
	file := t.TempDir() + "/el7.vmdk"
	convert := exec.Command("qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", tinyImage(t), file)
	must.NoError(t, convert.Run())
	image, err := os.ReadFile(file)
	must.NoError(t, err)
	return image
}

// archive is a compressed tar file with one file in it.
func archive(t testing.TB, name string, content []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	files := tar.NewWriter(&packed)
	must.NoError(t, files.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := files.Write(content)
	must.NoError(t, err)
	must.NoError(t, files.Close())
	return compressed(t, packed.Bytes())
}

func compressed(t testing.TB, content []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	_, err := writer.Write(content)
	must.NoError(t, err)
	must.NoError(t, writer.Close())
	return packed.Bytes()
}

// corpusJob is one group of a file of jobs, as a job of its own.
type corpusJob struct {
	*job
	tasks []string
	ports []string
}

// runCorpus runs the groups of a file, changed only where the tests have less than the hosts of these jobs had: other clients,
// cores, KVM, and the mirror of the images. One begins when the one before the last has booted; all of them stay.
func (c *client) runCorpus(file, mirror string) map[string]*corpusJob {
	c.t.Helper()
	text := strings.ReplaceAll(c.corpusText(readText(c.t, "corpus/"+file)), "http://images.example", mirror)
	jobs := map[string]*corpusJob{}
	var last *corpusJob
	for index := 0; ; index++ {
		parsed, err := jobspec2.Parse(file, strings.NewReader(text))
		must.NoError(c.t, err)
		if index == len(parsed.TaskGroups) {
			last.runs()
			return jobs
		}
		group := parsed.TaskGroups[index]
		id := c.name + "-" + *group.Name
		parsed.ID, parsed.Name, parsed.Datacenters = &id, &id, []string{c.name}
		parsed.TaskGroups = []*api.TaskGroup{group}
		none, fail, never := 0, "fail", false
		group.RestartPolicy = &api.RestartPolicy{Attempts: &none, Mode: &fail}
		group.ReschedulePolicy = &api.ReschedulePolicy{Attempts: &none, Unlimited: &never}
		it := &corpusJob{job: &job{c: c, id: id}}
		for _, task := range group.Tasks {
			it.tasks = append(it.tasks, task.Name)
			if task.Config["accelerator"] == "kvm" {
				task.Config["accelerator"] = "auto"
			}
			if task.Resources != nil && task.Resources.Cores != nil {
				one := 1
				task.Resources.Cores = &one
			}
		}
		for _, network := range group.Networks {
			for _, port := range append(network.DynamicPorts, network.ReservedPorts...) {
				it.ports = append(it.ports, port.Label)
			}
		}
		_, _, err = c.api.Jobs().Register(parsed, nil)
		must.NoError(c.t, err)
		if last != nil {
			last.runs()
		}
		jobs[*group.Name], last = it, it
	}
}

// runs waits until every guest of the job has booted and its page is served at the port "http", if it has one.
func (j *corpusJob) runs() {
	j.c.t.Helper()
	for _, task := range j.tasks {
		j.prints(task, "TINY-READY")
	}
	for _, label := range j.ports {
		if label == "http" {
			must.StrContains(j.c.t, page(j.c.t, onHost(j.hostPorts()[label]), 20*time.Second), "hello from")
		}
	}
}

func (j *corpusJob) prints(task, text string) {
	j.c.t.Helper()
	eventually(j.c.t, 120*time.Second, fmt.Sprintf("%s on the console of %s of %s", text, task, j.id), func() error {
		list := j.allocs()
		if len(list) == 0 {
			return fmt.Errorf("it is not placed")
		}
		if state := list[0].TaskStates[task]; state != nil && state.Failed {
			j.c.t.Fatalf("%s failed\n%s", j.id, story(state))
		}
		log, _ := os.ReadFile(fmt.Sprintf("%s/agent/data/alloc/%s/alloc/logs/%s.stdout.0", j.c.dir, list[0].ID, task))
		if !strings.Contains(string(log), text) {
			return fmt.Errorf("it ends with %q\n%s", tail(string(log), 300), story(list[0].TaskStates[task]))
		}
		return nil
	})
}

// events of the first task, as "nomad alloc status" shows them.
func (j *corpusJob) events() string {
	j.c.t.Helper()
	return story(j.allocs()[0].TaskStates[j.tasks[0]])
}

// blockDevice is a device of the host with a file as its medium, or "" where there can be none.
func blockDevice(t testing.TB, file string, bytes int64) string {
	t.Helper()
	must.NoError(t, os.WriteFile(file, nil, 0o600))
	must.NoError(t, os.Truncate(file, bytes))
	device, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Skipf("this host has no loop devices: %v", err)
	}
	name := strings.TrimSpace(string(device))
	t.Cleanup(func() { must.NoError(t, exec.Command("losetup", "--detach", name).Run()) })
	return name
}

// V-1 V-134: jobs written for the first releases of nomad-driver-virt run as they are, with the plugin block of that time.
func TestV134_FirstGeneration(t *testing.T) {
	c := corpusClient(t, `
plugin "nomad-driver-qmp" {
  config {
    data_dir = "/var/lib/virt"
    run_dir  = "/run/virt"
  }
}
plugin "nomad-driver-virt" {
  config {
    emulator {
      uri = "qemu:///system"
    }
    data_dir    = "/var/lib/virt"
    run_dir     = "/run/virt"
    image_paths = ["/var/local/statics/images/"]
  }
}`, "", "nomad-driver-qmp", "nomad-driver-virt")
	c.runCorpus("first-generation.nomad.hcl", corpusMirror(t).URL)
}

// V-1 V-134: jobs written for the later releases run as they are, with the provider and the pools of that time, on directories and devices of the client.
func TestV134_LaterGeneration(t *testing.T) {
	files := t.TempDir()
	second, first := blockDevice(t, files+"/second", 8<<20), blockDevice(t, files+"/first", 128<<20)
	c := corpusClient(t, `
plugin "nomad-driver-qmp" {
  config {
    run_dir     = "/run/virt"
    image_paths = ["/var/local/statics/images/"]
    provider "libvirt" {
      uri = "qemu:///system"
    }
    storage_pools {
      default = "local"
      directory "local" {
        path = "/srv/pool"
      }
    }
    data_dir = "/var/lib/virt"
  }
}`, fmt.Sprintf(`
host_volume "virt-data-dir" {
  path = "/srv/shared"
}
host_volume "virt-data-disk" {
  path = %q
}
host_volume "virt-primary-disk" {
  path = %q
}`, second, first), "nomad-driver-qmp")
	pool := filepath.Join(c.dir, "volumes/pool")
	must.NoError(t, os.MkdirAll(pool, 0o755))
	image, err := os.ReadFile(tinyImage(t))
	must.NoError(t, err)
	must.NoError(t, os.WriteFile(pool+"/focal.img", image, 0o644))
	jobs := c.runCorpus("later-generation.nomad.hcl", corpusMirror(t).URL)
	jobs["volumes"].prints("vm", "CORPUS-DISK 1")
}

// V-136: jobs written for Nomad's builtin driver run as they are, with that driver's plugin block.
func TestV136_Corpus(t *testing.T) {
	if os.Getenv("QMP_TINY_UEFI_IMAGE") == "" {
		t.Skip("the tiny guest for UEFI could not be built on this host")
	}
	c := corpusClient(t, `
plugin "nomad-driver-qmp" {
  config {
    data_dir = "/var/lib/virt"
    run_dir  = "/run/virt"
  }
}
plugin "qemu" {
  config {
    data_dir    = "/var/lib/virt"
    run_dir     = "/run/virt"
    image_paths = ["/var/local/statics/images/", "/var/local/statics/uefi/"]
    args_allowlist = []
  }
}`, "", "nomad-driver-qmp", "qemu")
	jobs := c.runCorpus("builtin.nomad.hcl", corpusMirror(t).URL)
	for job, text := range map[string]string{
		"appliance": "The guest has 256 MiB, the memory of its task, and not the 4096 of -m",
		"bridged":   "Address 192.168.122.",
		"uefi":      "The UEFI variables of \"/local/OVMF_VARS_4M.fd\" are not used",
	} {
		must.StrContains(t, jobs[job].events(), text)
	}
	must.StrContains(t, jobs["appliance"].events(), "The screen is for this host only, by VNC at 127.0.0.1:5904")
	must.StrContains(t, jobs["appliance"].events(), "The port \"vnc\" of port_map is that of the screen")
}

// V-134: plugin blocks as people have them are taken, read as the agent reads them.
func TestV134_PluginBlocks(t *testing.T) {
	h := launchIn(t, shortDir(t))
	for name, block := range map[string]string{
		"of the documentation": `
			emulator {
				uri = "qemu:///default"
			}
			data_dir    = "/opt/ubuntu/virt_temp"
			image_paths = ["/var/local/statics/images/"]`,
		"with a name and a password": `
			emulator {
				uri      = "qemu:///system"
				user     = ""
				password = ""
			}`,
		"with directories only":  `image_paths = ["/var/local/statics/images/"]`,
		"with a data_dir only":   `data_dir = "/opt/virt"`,
		"with nothing":           ``,
		"with an empty emulator": `emulator {}`,
		"of the later releases": `
			image_paths = ["/opt/images"]
			provider "libvirt" {
				uri      = "qemu:///system"
				user     = "nomad"
				password = "secret"
				allow_insecure_readonly_mounts = true
			}
			storage_pools {
				directory "local" {
					path = "/opt/nomad/virt/storage"
				}
			}`,
		"with pools of every kind": `
			provider "libvirt" {}
			storage_pools {
				default = "local"
				directory "local" {
					path = "/opt/nomad/virt/storage"
				}
				ceph "remote" {
					pool  = "nomad-pool"
					hosts = ["192.0.2.1", "192.0.2.2:6789"]
					authentication {
						username = "nomad"
						secret   = "c2VjcmV0"
					}
				}
			}`,
		"of the releases between, with keys of both": `
			emulator {
				uri = "qemu:///session"
			}
			data_dir = "/var/lib/virt"
			storage_pools {
				directory "local" {
					path = "/srv/pool"
				}
			}`,
		"with values in the forms of JSON": `
			emulator = [{ uri = "qemu:///system" }]
			storage_pools = [{ directory = [{ local = [{ path = "/srv/pool" }] }] }]`,
	} {
		t.Run(name, func(t *testing.T) {
			var agent struct {
				Plugins []*config.PluginConfig `hcl:"plugin"`
			}
			must.NoError(t, hcl.Decode(&agent, fmt.Sprintf("plugin \"nomad-driver-virt\" {\n config {\n %s\n }\n }", block)))
			must.SliceLen(t, 1, agent.Plugins)
			schema, err := h.ConfigSchema()
			must.NoError(t, err)
			value, err := convert(schema, agent.Plugins[0].Config)
			must.NoError(t, err)
			data, err := msgpack.Marshal(value, value.Type())
			must.NoError(t, err)
			// As the agent does it to check the block: without its own part, so nothing is made on the host.
			must.NoError(t, h.SetConfig(&base.Config{ApiVersion: drivers.ApiVersion010, PluginConfig: data}))
		})
	}
}
