import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const emulator = {
  x64: { name: 'qemu-system-x86', file: 'qemu-system-x86_64' },
  arm64: { name: 'qemu-system-arm', file: 'qemu-system-aarch64' },
}[process.arch];

/**
 * Every Debian package that this project asks for: the file that shows it is there, who needs it and what for.
 * `demo` is what running machines takes; `test` comes on top of it.
 */
const packages = [
  ...(emulator ? [{ ...emulator, for: 'demo', why: 'the emulator that runs the guests' }] : []),
  { name: 'qemu-utils', file: 'qemu-img', for: 'demo', why: 'reads and converts disk images' },
  { name: 'nftables', file: 'nft', for: 'demo', why: 'port forwarding and guest isolation' },
  { name: 'iproute2', file: 'ip', for: 'demo', why: 'network namespaces, and showing links' },
  { name: 'busybox-static', file: 'busybox', for: 'demo', why: 'user space of the small guest' },
  { name: 'cpio', file: 'cpio', for: 'demo', why: 'packs the initramfs of the small guest' },
  { name: 'kmod', file: 'depmod', for: 'demo', why: 'module lists of the small guest' },
  { name: 'zstd', file: 'zstd', for: 'demo', why: 'unpacks kernel modules, makes .zst images' },
  { name: 'xz-utils', file: 'xz', for: 'demo', why: 'unpacks kernel modules, makes .xz images' },
  { name: 'mtools', file: 'mcopy', for: 'demo', why: 'fills the FAT disk of the small guest' },
  { name: 'binutils', file: 'ld', for: 'demo', why: 'assembles the one-sector guest; strips' },
  {
    name: 'syslinux',
    file: 'syslinux',
    for: 'demo',
    why: 'boot loader of the small guest',
    arch: 'x64',
  },
  {
    name: 'e2fsprogs',
    file: 'mkfs.ext4',
    for: 'test',
    why: 'file systems with holes and reflinks',
  },
  { name: 'xorriso', file: 'xorriso', for: 'test', why: 'a second opinion on our ISO images' },
  { name: 'gcc', file: 'gcc', for: 'test', why: 'cgo parts of the Nomad agent under test' },
  { name: 'libc6-dev', path: '/usr/include/stdio.h', for: 'test', why: 'the same' },
  {
    name: 'containernetworking-plugins',
    path: '/usr/lib/cni/bridge',
    for: 'test',
    why: 'group networks of the Nomad agent',
  },
  { name: 'iptables', file: 'iptables', for: 'test', why: 'the same: Nomad calls it' },
];

const folders = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/local/sbin'];

function isThere({ file, path }) {
  return path ? existsSync(path) : folders.some((folder) => existsSync(join(folder, file)));
}

/** Installs what is missing for the purpose ('demo' or 'test'); where it can't, it says what to install and goes on. */
export function bringPackages(purpose) {
  const missing = packages
    .filter((it) => purpose === 'test' || it.for === purpose)
    .filter((it) => it.arch === undefined || it.arch === process.arch)
    .filter((it) => !isThere(it));
  if (missing.length === 0) return;
  const names = missing.map(({ name }) => name);
  console.error('# missing on this host:');
  for (const { name, why } of missing) console.error(`#   ${name.padEnd(28)} ${why}`);
  const command = `apt-get install -y --no-install-recommends ${names.join(' ')}`;
  if (process.getuid?.() !== 0 || !isThere({ file: 'apt-get' })) {
    console.error(`# going on without them; to install: ${command}`);
    return;
  }
  console.error(`# ${command}`);
  if (!install(names)) {
    console.error('# apt-get update (the package lists are missing or old)');
    apt(['update', '-q']);
    if (!install(names)) console.error('# apt-get failed; going on without those packages');
  }
}

function install(names) {
  return apt(['install', '-y', '-q', '--no-install-recommends', ...names]);
}

function apt(args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // Its output is long and rarely of interest: shown only when it failed.
  const { status, stdout, stderr } = spawnSync('apt-get', args, { env, encoding: 'utf8' });
  if (status !== 0)
    console.error(`${stdout ?? ''}${stderr ?? ''}`.split('\n').slice(-15).join('\n'));
  return status === 0;
}
