import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { task } from './requests.ts';

// Configurations as people write them for Nomad's builtin driver: of its documentation in several generations, and of
// homelabs. Interpolated as Nomad does it before the driver sees them.

const words = (text: string): readonly string[] => text.trim().split(/\s+/);
const image_path = 'local/linux.img';

const jobs: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'the first documentation: port_map and KVM': {
    image_path: '/local/linux.img',
    accelerator: 'kvm',
    args: words('-nodefaults -nodefconfig'),
    port_map: [{ http: 22 }],
  },
  'graceful shutdown and a guest agent': {
    image_path,
    accelerator: 'tcg',
    graceful_shutdown: true,
    guest_agent: true,
    args: words('-nodefaults'),
  },
  'the drive by its id, on another device': {
    image_path,
    drive_interface: 'none',
    args: words('-device virtio-scsi-pci,id=scsi0 -device scsi-hd,drive=image0,bus=scsi0.0'),
  },
  'another emulator': {
    image_path,
    emulator: 'aarch64',
    machine_type: 'virt',
    drive_interface: 'virtio',
  },
  'the emulator by its full name': {
    image_path,
    emulator: 'qemu-system-x86_64',
    machine_type: 'q35',
  },
  'hostfwd of a homelab': {
    image_path: '/images/ubuntu.qcow2',
    accelerator: 'kvm',
    drive_interface: 'virtio',
    args: words(
      '-device virtio-net-pci,netdev=net0 -netdev user,id=net0,hostfwd=tcp::20080-:22,hostfwd=tcp::8443-:443 -smp 2 -m 512',
    ),
  },
  'the old form of a network': {
    image_path,
    args: words(
      '-net nic,model=virtio -net user,hostfwd=tcp:0.0.0.0:20080-:80 -nographic -serial stdio',
    ),
  },
  redir: { image_path, args: words('-redir tcp:20080::22 -net nic -net user') },
  'nic with a MAC address': {
    image_path,
    args: words('-nic user,model=e1000,mac=52:54:00:AB:CD:EF,hostfwd=tcp::20080-:22'),
  },
  'a seed as a CD-ROM': {
    image_path,
    args: words('-cdrom local/seed.iso -display none -serial mon:stdio -cpu host,migratable=off'),
  },
  'a seed as a raw drive': {
    image_path,
    args: words('-drive file=/local/seed.img,format=raw,if=virtio -enable-kvm -no-user-config'),
  },
  'a seed from a server, named in SMBIOS': {
    image_path,
    args: words(
      '-smbios type=1,serial=ds=nocloud-net;s=http://192.0.2.1:8000/ -rtc base=utc,clock=host',
    ),
  },
  'an installer': {
    image_path,
    args: words(
      '-cdrom /images/install.iso -boot once=d,menu=on -vga std -vnc :1 -usb -device usb-tablet -k de',
    ),
  },
  'UEFI from files of the host': {
    image_path,
    args: words(
      '-machine q35,smm=on -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd -drive if=pflash,format=raw,file=local/OVMF_VARS.fd',
    ),
  },
  'KVM, its CPU, and UEFI with variables of its own': {
    image_path,
    accelerator: 'kvm',
    args: words(
      '-enable-kvm -cpu host,kvm=off,hv_relaxed,hv_spinlocks=0x1fff -machine q35,accel=kvm,smm=on,kernel_irqchip=on -global driver=cfi.pflash01,property=secure,value=on -global ICH9-LPC.disable_s3=1 -drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE.secboot.fd -drive if=pflash,format=raw,unit=1,file=/alloc/nvram.fd',
    ),
  },
  'UEFI of an arm64 guest': {
    image_path,
    emulator: 'aarch64',
    args: words(
      '-M virt,gic-version=3 -cpu cortex-a72 -drive if=pflash,format=raw,file=local/flash0.img,readonly=on -drive if=pflash,format=raw,file=local/flash1.img',
    ),
  },
  'a disk of another hypervisor': {
    image_path: 'local/appliance.vmdk',
    args: words(
      '-drive file=local/data.vmdk,format=vmdk,if=virtio -hdb local/old.vdi -drive file=local/more.vhdx,driver=vhdx,if=none,id=m -device scsi-hd,drive=m',
    ),
  },
  'a directory by 9p': {
    image_path,
    args: words('-virtfs local,path=/alloc,mount_tag=alloc,security_model=mapped-xattr,id=a'),
  },
  'a directory by 9p, device by device': {
    image_path,
    args: words(
      '-fsdev local,id=f0,path=/local,security_model=none,readonly=on -device virtio-9p-pci,fsdev=f0,mount_tag=host',
    ),
  },
  'a guest agent by hand': {
    image_path,
    args: words(
      '-chardev socket,path=/tmp/qga.sock,server,nowait,id=qga0 -device virtio-serial -device virtserialport,chardev=qga0,name=org.qemu.guest_agent.0',
    ),
  },
  'a batch job that leaves nothing': {
    image_path,
    args: words('-snapshot -nographic -monitor none -name batch'),
  },
  'randomness and a balloon': {
    image_path,
    args: words(
      '-object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-pci,rng=rng0 -device virtio-balloon-pci',
    ),
  },
  'NUL devices': {
    image_path,
    args: words('-parallel none -serial null -monitor /dev/null -display none'),
  },
  'a watchdog': { image_path, args: words('-watchdog i6300esb -watchdog-action reset') },
  'Windows with its local time': {
    image_path,
    machine_type: 'q35',
    args: words(
      '-smp cores=4,threads=1,sockets=1 -rtc base=localtime -device e1000e,netdev=n0 -netdev user,id=n0 -vga std -vnc 127.0.0.1:5',
    ),
  },
  'disks of every bus': {
    image_path,
    args: words(
      '-hdb local/b.img -drive file=local/c.img,if=scsi -drive file=local/d.img,if=none,id=d -device usb-storage,drive=d',
    ),
  },
};

for (const [name, config] of Object.entries(jobs)) {
  test(`V-136: a job of the builtin driver is taken as it is: ${name}`, () => {
    const { spec, problems } = planTask(create(TaskConfigSchema, task({ config })), {
      driverName: 'qemu',
      hostArch: 'x86_64',
      limits: { minMemoryMiB: 64, minDiskMiB: 1, maxDiskMiB: 100_000, maxConnections: 8192 },
      pools: { pools: [], default: undefined },
      builtin: { args: [], emulators: [], bridge: 'virbr0' },
    });
    assert.deepEqual(problems, []);
    assert.equal(spec.disks.filter(({ primary }) => primary).length, 1);
    assert.equal(new Set(spec.disks.map((disk) => disk.name)).size, spec.disks.length);
  });
}
