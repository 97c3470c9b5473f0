package nomadtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shoenig/test/must"
)

// versionOf is what the builtin driver finds in the first line of --version.
var versionOf = regexp.MustCompile(`^\d[.\d]+$`)

// newQemuClient has the plugin under the name of Nomad's builtin driver as well.
func newQemuClient(t *testing.T) *client {
	c := newClientWith(t, "nomad-driver-qmp", "qemu")
	eventually(t, 30*time.Second, "the driver qemu", func() error {
		node, _, err := c.api.Nodes().Info(c.node, nil)
		if err != nil {
			return err
		}
		if driver := node.Drivers["qemu"]; driver == nil || !driver.Healthy {
			return fmt.Errorf("%+v", driver)
		}
		return nil
	})
	return c
}

// qemuJob is a job for the builtin driver; the parts given go into the group, task and config blocks.
func (c *client) qemuJob(name, group, task, config string, memory int) *job {
	id := c.name + "-" + name
	return &job{c: c, id: id, text: fmt.Sprintf(`
job %q {
  datacenters = [%q]
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    %s
    task "vm" {
      driver = "qemu"
      %s
      config {
        %s
      }
      resources {
        cpu    = 50
        memory = %d
      }
    }
  }
}
`, id, c.name, group, task, config, memory)}
}

// record is what the driver has written down of its one VM.
func (c *client) record() string {
	paths, err := filepath.Glob(c.dir + "/data/vms/*/vm.json")
	must.NoError(c.t, err)
	must.SliceLen(c.t, 1, paths)
	data, err := os.ReadFile(paths[0])
	must.NoError(c.t, err)
	return string(data)
}

// V-136: under the name qemu the driver takes the place of Nomad's builtin one: its attributes are on the node, and a job of its documentation boots from the disk and the machine that it had there.
func TestV136_TakesTheBuiltinDriversPlace(t *testing.T) {
	c := newQemuClient(t)
	node, _, err := c.api.Nodes().Info(c.node, nil)
	must.NoError(t, err)
	must.Eq(t, "1", node.Attributes["driver.qemu"])
	must.RegexMatch(t, versionOf, node.Attributes["driver.qemu.version"])
	must.StrContains(t, node.Attributes["driver.qemu.emulators"], "x86_64")
	must.NotEq(t, "", node.Attributes["driver.virt.emulator.version"])

	job := c.qemuJob("documented", `
    constraint {
      attribute = "${attr.driver.qemu.version}"
      operator  = "version"
      value     = ">= 2.0"
    }`, "kill_timeout = \"20s\"", fmt.Sprintf(`
        image_path        = %q
        accelerator       = "tcg"
        graceful_shutdown = true
        guest_agent       = true`, sectorImage(t, obedient)), 128).run()
	job.becomes("running", 60*time.Second)
	job.says("GUEST-TICK")
	must.StrContains(t, c.record(), `"machine": "pc-i440fx`)
	job.stop()
	done := job.becomes("complete", 60*time.Second)
	must.False(t, done.TaskStates["vm"].Failed)
	must.StrContains(t, job.story(), "Guest powered off")
}

// V-136: a job with args of many kinds runs as it does on the builtin driver: its network, ports, disks and processors are there, its image is the one of its artifact, which keeps what the guest wrote.
func TestV136_ArgsAreRead(t *testing.T) {
	image := tinyImage(t)
	mirror := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(image))))
	defer mirror.Close()
	c := newQemuClient(t)
	job := c.qemuJob("args", `
    network {
      port "http" {}
      port "other" {}
    }`, fmt.Sprintf(`
      kill_timeout = "20s"
      artifact {
        source      = "%s/disk.qcow2"
        destination = "local/linux.img"
        mode        = "file"
      }`, mirror.URL), fmt.Sprintf(`
        image_path        = "local/linux.img"
        drive_interface   = "none"
        graceful_shutdown = true
        port_map {
          http = 80
        }
        args = [
          "-nodefaults", "-no-user-config", "-nographic", "-display", "none", "-vga", "none",
          "-serial", "mon:stdio", "-monitor", "none", "-name", "guest=${NOMAD_TASK_NAME}",
          "-m", "160", "-smp", "cores=2,sockets=1", "-cpu", "qemu64", "-machine", "q35,usb=off",
          "-device", "virtio-blk-pci,drive=image0,serial=boot-disk",
          "-drive", "file=%s,if=none,id=extra,format=raw,readonly=on", "-device", "scsi-hd,drive=extra",
          "-drive", "file=fat:${NOMAD_TASK_DIR},if=none,id=dir,format=raw", "-device", "scsi-hd,drive=dir,serial=dir",
          "-netdev", "user,id=net0,hostfwd=tcp:${NOMAD_HOST_IP_other}:${NOMAD_PORT_other}-:80",
          "-device", "virtio-net-pci,netdev=net0,mac=52:54:00:12:34:56",
          "-smbios", "type=1,manufacturer=Example,,Inc,serial=ds=nocloud;h=${NOMAD_TASK_NAME}",
          "-virtfs", "local,path=${NOMAD_TASK_DIR},mount_tag=files,security_model=none,readonly=on",
          "-rtc", "base=utc", "-boot", "order=c", "-device", "virtio-rng-pci", "-device", "virtio-balloon",
          "-device", "i6300esb", "-watchdog-action", "reset",
        ]`, sectorImage(t, obedient)), 160).run()
	stub := job.becomes("running", 90*time.Second)
	job.says("TINY-READY")
	ports := job.hostPorts()
	for _, label := range []string{"http", "other"} {
		must.StrContains(t, page(t, onHost(ports[label]), 20*time.Second), "hello from")
	}
	alloc, _, err := c.api.Allocations().Info(stub.ID, nil)
	must.NoError(t, err)
	inGuest := func(command string) string {
		ctx, cancel := context.WithTimeout(context.Background(), patient(60*time.Second))
		defer cancel()
		var stdout, stderr bytes.Buffer
		code, err := c.api.Allocations().Exec(ctx, alloc, "vm", false, []string{"sh", "-c", command}, strings.NewReader(""), &stdout, &stderr, nil, nil)
		must.NoError(t, err)
		must.Eq(t, 0, code, must.Sprint(stderr.String()))
		return stdout.String()
	}
	must.Eq(t, "2\n", inGuest("nproc"))
	must.Eq(t, "boot-disk", strings.TrimSpace(inGuest("cat /sys/block/vda/serial")))
	// Linux looks at SCSI disks while it goes on with the boot, and names them in any order. That of a directory has a partition.
	eventually(t, 60*time.Second, "both disks on SCSI", func() error {
		if found := inGuest("cd /sys/block && echo sd? sd?/sd?1"); !regexp.MustCompile(`^sda sdb (sda/sda1|sdb/sdb1)\n$`).MatchString(found) {
			return fmt.Errorf("%s", found)
		}
		return nil
	})
	must.Eq(t, "QEMU VVFAT", inGuest("dd if=/dev/$(cd /sys/block && echo sd?/sd?1 | cut -c1-3) bs=1 skip=$(( 63 * 512 + 43 )) count=10 2>/dev/null"))
	must.Eq(t, "Example,Inc\nds=nocloud;h=vm\n", inGuest("cat /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_serial"))
	// The device of type 9 is a directory by 9p.
	must.Eq(t, "1\n", inGuest("cat /sys/bus/virtio/devices/*/device | grep -c 0x0009"))
	must.StrContains(t, c.record(), "pc-q35")

	// What the guest writes is in the image, and there after a restart of the task.
	inGuest("printf written | dd of=/dev/vda bs=1 seek=$(( $(cat /sys/block/vda/size) * 512 - 512 )) conv=notrunc && sync")
	must.NoError(t, c.api.Allocations().Restart(alloc, "vm", nil))
	eventually(t, 90*time.Second, "a second start", func() error {
		if list := job.allocs(); list[0].TaskStates["vm"].Restarts != 1 || strings.Count(job.logs("stdout"), "TINY-READY") != 2 {
			return fmt.Errorf("%s", job.story())
		}
		return nil
	})
	must.Eq(t, "written", inGuest("dd if=/dev/vda bs=1 skip=$(( $(cat /sys/block/vda/size) * 512 - 512 )) count=7 2>/dev/null"))
	job.stop()
	done := job.becomes("complete", 60*time.Second)
	must.False(t, done.TaskStates["vm"].Failed)
}

// V-136: everything in args that can't be had is in one message, KVM with the reason itself, and nothing is started.
func TestV136_RefusedArgs(t *testing.T) {
	c := newQemuClient(t)
	job := c.qemuJob("refused", "", "", fmt.Sprintf(`
        image_path = %q
        args       = ["-drive", "file=/etc/shadow,format=raw", "-netdev", "tap,id=n0,script=no", "-device", "vfio-pci,host=00:02.0", "-enable-kvm", "-cpu", "host"]`,
		sectorImage(t, obedient)), 128).run()
	job.becomes("failed", 60*time.Second)
	texts := []string{
		"args[2]: -netdev", "args[4]: -device the device", "args[0]: /etc/shadow is not inside the allowed directories",
	}
	node, _, err := c.api.Nodes().Info(c.node, nil)
	must.NoError(t, err)
	if node.Attributes["driver.virt.emulator.kvm"] != "true" {
		reason := node.Attributes["driver.virt.emulator.kvm.reason"]
		must.NotEq(t, "", reason)
		texts = append(texts, `accelerator "kvm" is not available: `+reason)
	}
	for _, text := range texts {
		must.StrContains(t, job.story(), text)
	}
	must.SliceEmpty(t, emulators(c.dir))
}

// V-136: a guest that restarts ends a batch job whose args have -no-reboot.
func TestV136_NoReboot(t *testing.T) {
	c := newQemuClient(t)
	job := c.qemuJob("once", "", "", fmt.Sprintf(`
        image_path = %q
        args       = ["-no-reboot", "-nodefaults"]`, sectorImage(t, resets)), 128)
	job.text = strings.Replace(job.text, "datacenters", "type = \"batch\"\n  datacenters", 1)
	done := job.run().becomes("complete", 60*time.Second)
	must.False(t, done.TaskStates["vm"].Failed)
	must.Eq(t, 1, countIn(job.logs("stdout"), "GUEST-BOOT"))
}

// bootableIso is an ISO 9660 image with boot code for a CD-ROM (El Torito, without emulation) and in its first sector, for a disk.
func bootableIso(t *testing.T, code []byte) []byte {
	const sector = 2048
	iso := make([]byte, 32*sector)
	copy(iso, code[:512])
	copy(iso[16*sector:], "\x01CD001\x01")
	copy(iso[17*sector:], "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(iso[17*sector+0x47:], 19)
	copy(iso[18*sector:], "\xffCD001\x01")
	catalog := iso[19*sector:]
	copy(catalog, "\x01\x00")
	catalog[0x1e], catalog[0x1f] = 0x55, 0xaa
	// The words of the first entry have the sum 0.
	binary.LittleEndian.PutUint16(catalog[0x1c:], 0x10000-0x0001-0xaa55)
	catalog[0x20] = 0x88
	binary.LittleEndian.PutUint16(catalog[0x26:], 4)
	binary.LittleEndian.PutUint32(catalog[0x28:], 20)
	copy(iso[20*sector:], code[:512])
	must.Eq(t, byte(0xaa), iso[511])
	return iso
}

// V-136: an ISO with boot code boots as the CD-ROM of args, before an empty disk, and as the image itself; both are artifacts, named by NOMAD_TASK_DIR.
func TestV136_BootsFromAnIso(t *testing.T) {
	files := t.TempDir()
	code, err := os.ReadFile(sectorImage(t, obedient))
	must.NoError(t, err)
	must.NoError(t, os.WriteFile(files+"/guest.iso", bootableIso(t, code), 0o600))
	must.NoError(t, os.WriteFile(files+"/empty.img", make([]byte, 1<<20), 0o600))
	mirror := httptest.NewServer(http.FileServer(http.Dir(files)))
	defer mirror.Close()
	c := newQemuClient(t)
	artifact := func(name string) string {
		return fmt.Sprintf("artifact {\n source = \"%s/%s\"\n destination = \"local/%s\"\n mode = \"file\"\n }\n", mirror.URL, name, name)
	}
	cdrom := c.qemuJob("cdrom", "", artifact("guest.iso")+artifact("empty.img"), `
        image_path = "${NOMAD_TASK_DIR}/empty.img"
        args       = ["-cdrom", "${NOMAD_TASK_DIR}/guest.iso", "-boot", "once=d,menu=off", "-nodefaults"]`, 128).run()
	image := c.qemuJob("image", "", artifact("guest.iso"), `
        image_path = "${NOMAD_TASK_DIR}/guest.iso"
        args       = ["-net", "none", "-vnc", "0.0.0.0:77", "-vga", "std"]`, 128).run()
	for _, job := range []*job{cdrom, image} {
		job.becomes("running", 60*time.Second)
		job.says("GUEST-TICK")
	}
	// The screen is on the loopback only.
	screen, err := net.DialTimeout("tcp", "127.0.0.1:5977", patient(5*time.Second))
	must.NoError(t, err)
	must.NoError(t, screen.Close())
	_, err = net.DialTimeout("tcp", onHost(5977), patient(5*time.Second))
	must.ErrorContains(t, err, "refused")
}
