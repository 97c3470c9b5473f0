package nomadtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// exportedDisk serves an empty file of 3 MiB by a real qemu-nbd until the test ends; the answer is its socket.
func (c *client) exportedDisk() string {
	c.t.Helper()
	file, socket := filepath.Join(c.dir, "exported.img"), filepath.Join(c.dir, "nbd.sock")
	must.NoError(c.t, os.WriteFile(file, make([]byte, 3<<20), 0o600))
	server := exec.Command("qemu-nbd", "--socket", socket, "--format=raw", "--persistent", "--export-name=data", file)
	must.NoError(c.t, server.Start())
	c.t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	eventually(c.t, 20*time.Second, "the socket of qemu-nbd", func() error {
		// A VM is a user of its own.
		return os.Chmod(socket, 0o666)
	})
	return socket
}

// withDisks has these disk blocks in place of the keys of one disk.
func (j *job) withDisks(image, blocks string) *job {
	j.c.t.Helper()
	first := fmt.Sprintf("image             = %q", image)
	must.StrContains(j.c.t, j.text, first)
	j.text = strings.NewReplacer(first, blocks, "primary_disk_size = 64", "", "use_thin_copy     = true", "").Replace(j.text)
	return j
}

// operator runs the executable as an operator does, for the VM of an allocation.
func (c *client) operator(words ...string) string {
	c.t.Helper()
	output, err := exec.Command(pluginPath(c.t), append(words, "--data-dir", c.dir+"/data")...).CombinedOutput()
	must.NoError(c.t, err, must.Sprint(string(output)))
	return string(output)
}

// listDisks prints a line for each disk that the guest has a driver for: its name, sectors, whether it is read-only, and serial.
const listDisks = `for disk in /sys/block/vd* /sys/block/sd* /sys/block/sr*; do
  [ -e $disk/size ] || continue
  serial=$(cat $disk/serial 2>/dev/null || tail -c +5 $disk/device/vpd_pg80 2>/dev/null)
  echo "${disk##*/} $(cat $disk/size) $(cat $disk/ro) $serial"
done`

// V-39 V-40 V-42 V-43 V-47 V-53 V-54: one job with a disk on every bus, CD-ROMs, limits, and a disk of an NBD server, under a real agent; the guest sees those that it has drivers for, and one that an operator makes larger.
func TestV42_DisksOfEveryKind(t *testing.T) {
	c := newClient(t)
	image := tinyImage(t)
	cdrom := sectorImage(t, obedient)
	job := c.newJob("kinds", jobParts{image: image, memory: 160}).withDisks(image, fmt.Sprintf(`disk {
          primary = true
          chained = true
          size    = "64MiB"
          source { image = %[1]q }
        }
        disk {
          size   = "5MiB"
          serial = "limited"
          throttle { iops = 500 }
        }
        disk {
          size     = "6MiB"
          bus_type = "scsi"
          serial   = "on-scsi"
        }
        disk {
          size     = "7MiB"
          bus_type = "sata"
          format   = "raw"
          serial   = "on-sata"
        }
        disk {
          size     = "8MiB"
          bus_type = "ide"
          serial   = "on-ide"
        }
        disk {
          size     = "9MiB"
          bus_type = "usb"
          cache    = "unsafe"
          serial   = "on-usb"
        }
        disk {
          kind = "cdrom"
          source { image = %[2]q }
        }
        disk {
          kind     = "cdrom"
          bus_type = "scsi"
          source { image = %[2]q }
        }
        disk {
          serial = "exported"
          source { nbd = "nbd+unix:///data?socket=%[3]s" }
        }
        disk {
          size      = "1MiB"
          read_only = true
          serial    = "read-only"
          source { image = %[2]q }
        }`, image, cdrom, c.exportedDisk()))
	job.run()
	alloc := job.becomes("running", 60*time.Second)
	job.says("TINY-READY")
	seen := job.inGuest(alloc, listDisks)
	for _, disk := range []string{"131072 0", "10240 0 limited", "12288 0 on-scsi", "6144 0 exported", "2048 1 read-only", "sr0"} {
		must.StrContains(t, seen, disk)
	}
	// Debian's cloud kernels have no drivers for these: they are looked for in the machine.
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.emulator().pid))
	must.NoError(t, err)
	line := strings.ReplaceAll(string(data), "\x00", " ")
	for _, device := range []string{"ide-hd", "on-sata", "on-ide", "usb-storage", "on-usb", "ide-cd", "scsi-cd"} {
		must.StrContains(t, line, device)
	}
	must.Eq(t, "vdb has 11534336 bytes now\n", c.operator("disk", "resize", alloc.ID[:8]+"/vm", "vdb", "11MiB"))
	must.StrContains(t, job.inGuest(alloc, listDisks), "22528 0 limited")
	eventually(t, 20*time.Second, "the event of the resize", func() error {
		if story := job.story(); !strings.Contains(story, "The disk was resized") {
			return fmt.Errorf("there is\n%s", story)
		}
		return nil
	})
	job.stop()
	job.becomes("complete", 60*time.Second)
	must.SliceEmpty(t, emulators(c.dir))
}
