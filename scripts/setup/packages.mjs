import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Every Debian package that this project uses: its name, a file that shows that it is installed (a program's name or a
 * path), and its purpose. The demo needs the first list; tests need the second, too.
 */
const demoPackages = [
  ['qemu-utils', 'qemu-img', 'disk images'],
  ['nftables', 'nft', 'port forwarding and guest isolation'],
  ['iproute2', 'ip', 'network namespaces, and showing links'],
  ['busybox-static', 'busybox', 'user space of the tiny guest'],
  ['cpio', 'cpio', 'its initramfs'],
  ['kmod', 'depmod', 'its kernel modules'],
  ['mtools', 'mcopy', 'its FAT file system'],
  ['zstd', 'zstd', 'its initramfs, and .zst images'],
  ['gcc', 'gcc', 'cgo parts of the Nomad agent'],
  ['libc6-dev', '/usr/include/stdio.h', 'the same'],
];
const testPackages = [
  ['xz-utils', 'xz', 'images to import, and what our importer is compared with'],
  ['bzip2', 'bzip2', 'the same'],
  ['binutils', 'ld', 'the one-sector guest, and stripping the executable'],
  ['e2fsprogs', 'mke2fs', 'root file system of the Debian guest, and small disks'],
  ['xfsprogs', 'mkfs.xfs', 'small disks that are full or read-only'],
  ['btrfs-progs', 'mkfs.btrfs', 'the same'],
  ['fdisk', 'sfdisk', 'partition tables of guests'],
  ['mmdebstrap', 'mmdebstrap', 'the Debian guest'],
  ['xorriso', 'xorriso', 'a second implementation to check our ISO images'],
  [
    'python3-yaml',
    '/usr/lib/python3/dist-packages/yaml',
    'a second implementation to check user data',
  ],
  ['tzdata', '/usr/share/zoneinfo/Europe/Berlin', 'the time zones that jobs may name'],
  ['openssh-client', 'ssh', 'to log in to a guest'],
  ['socat', 'socat', 'the way to a console and a screen that docs/guests.md has'],
  ['isc-dhcp-client', 'dhclient', 'a client of DHCPv6'],
  ['dnsmasq-base', 'dnsmasq', "a DHCP server that is not the driver's"],
  ['dhcpcd-base', 'dhcpcd', 'another one, which heeds router advertisements'],
  ['ceph-mon', 'ceph-mon', 'a real Ceph cluster of one node'],
  ['ceph-osd', 'ceph-osd', 'the same'],
  ['ceph-common', 'rbd', 'the same'],
  ['qemu-block-extra', '/usr/share/doc/qemu-block-extra', 'disks in it'],
  ['iptables', 'iptables', 'group networks: Nomad calls it'],
  ['containernetworking-plugins', '/usr/lib/cni/bridge', 'the same'],
];
const perArch = {
  x64: {
    demo: [
      ['qemu-system-x86', 'qemu-system-x86_64', 'the emulator that runs the guests'],
      ['syslinux', 'syslinux', 'boot loader of the guests'],
    ],
    test: [
      ['qemu-system-arm', 'qemu-system-aarch64', 'the other architecture, emulated'],
      ['binutils-aarch64-linux-gnu', 'aarch64-linux-gnu-as', 'its guest of a few instructions'],
      ['ovmf', '/usr/share/OVMF/OVMF_CODE_4M.fd', 'UEFI firmware'],
      ['syslinux-common', '/usr/lib/syslinux/mbr/mbr.bin', 'boot sector of the Debian guest'],
    ],
  },
  arm64: {
    demo: [
      ['qemu-system-arm', 'qemu-system-aarch64', 'the emulator that runs the guests'],
      ['qemu-efi-aarch64', '/usr/share/AAVMF/AAVMF_CODE.fd', 'UEFI firmware'],
    ],
    test: [
      ['qemu-system-x86', 'qemu-system-x86_64', 'the other architecture, emulated'],
      ['binutils-x86-64-linux-gnu', 'x86_64-linux-gnu-as', 'its guest of a few instructions'],
    ],
  },
}[process.arch] ?? { demo: [], test: [] };

const folders = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/local/sbin'];

function isThere(file) {
  if (file.startsWith('/')) return existsSync(file);
  return folders.some((folder) => existsSync(join(folder, file)));
}

/** Installs what is missing for the purpose ('demo' or 'test'), or reports what to install and continues. */
export function installPackages(purpose) {
  const wanted = [...demoPackages, ...perArch.demo];
  if (purpose === 'test') wanted.push(...testPackages, ...perArch.test);
  const missing = wanted.filter(([, file]) => !isThere(file));
  if (missing.length === 0) return;
  const names = missing.map(([name]) => name);
  console.error('# missing on this host:');
  for (const [name, , why] of missing) console.error(`#   ${name.padEnd(28)} ${why}`);
  const command = `apt-get install -y --no-install-recommends ${names.join(' ')}`;
  if (process.getuid?.() !== 0 || !isThere('apt-get')) {
    console.error(`# continuing without them; to install: ${command}`);
    return;
  }
  console.error(`# ${command}`);
  if (install(names)) return;
  console.error('# apt-get update: the package lists are missing or old');
  apt(['update', '-q']);
  if (!install(names)) console.error('# apt-get failed; continuing without those packages');
}

function install(names) {
  return apt(['install', '-y', '-q', '--no-install-recommends', ...names]);
}

function apt(args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // Its output is long and shown only when it failed.
  const { status, stdout, stderr } = spawnSync('apt-get', args, { env, encoding: 'utf8' });
  if (status !== 0)
    console.error(`${stdout ?? ''}${stderr ?? ''}`.split('\n').slice(-15).join('\n'));
  return status === 0;
}
