import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  disk as diskPart,
  display,
  flash,
  type KvmVerdict,
  machineProblems,
  memoryLimit,
  nic,
  ninePShare,
  planMachine,
  readOnlyDisk,
  virtiofsShare,
  watchdog,
} from '#qemu';
import type { DisplaySpec, VmSpec } from '#spec';
import type { MachineFacts } from '../../src/qemu/machine.ts';
import type { NicDescription } from '../../src/qemu/nic.ts';
import { planDisk } from '../../src/vm/disks/plan.ts';
import { lineOf } from '../../src/vm/start/line.ts';
import { diskOn } from '../support/disks.ts';
import { smallestSpec } from '../support/vm.ts';

const MiB = 1024 * 1024;

const own = diskOn('/images/debian.qcow2', 4096);

const spec: VmSpec = smallestSpec('/images/debian.qcow2', '/allocs/a/web', {
  name: 'web-1a2b3c4d',
  firmware: 'auto',
  accelerator: 'auto',
  vcpus: 2,
  memoryMiB: 1024,
  disks: [own],
});

const x86: MachineFacts = {
  arch: 'x86_64',
  path: '/usr/bin/qemu-system-x86_64',
  defaultMachine: 'pc-q35-7.2',
  machines: [
    'microvm',
    'pc',
    'pc-i440fx-7.2',
    'pc-i440fx-2.12',
    'q35',
    'pc-q35-7.2',
    'pc-q35-7.1',
    'pc-q35-2.9',
    'pc-q35-2.10',
    'none',
  ],
  maxVcpus: new Map([
    ['pc-q35-7.2', 288],
    ['q35', 288],
    ['pc-i440fx-7.2', 255],
  ]),
};

const arm: MachineFacts = {
  arch: 'aarch64',
  path: '/usr/bin/qemu-system-aarch64',
  defaultMachine: 'virt-7.2',
  machines: ['virt', 'virt-7.2'],
  maxVcpus: new Map(),
};

const noKvm = { usable: false, reason: 'there is no /dev/kvm here' };

interface Facts {
  readonly emulator: MachineFacts;
  readonly kvm: KvmVerdict;
  readonly image: { format: 'raw' | 'qcow2'; virtualBytes: number; fileBytes: number };
  readonly uefi: boolean;
  readonly nics: readonly Omit<NicDescription, 'index'>[];
  readonly shares: readonly ('virtiofs' | '9p')[];
  readonly watchdog?: 'reset';
  readonly display?: DisplaySpec;
}

const image: Facts['image'] = {
  format: 'qcow2',
  virtualBytes: 2048 * MiB,
  fileBytes: 1024 * MiB,
};
const facts: Facts = { emulator: x86, kvm: noKvm, image, uefi: false, nics: [], shares: [] };

const raw = { ...image, format: 'raw' as const };

/** What a start decides of a VM, from the parts that its devices give. */
function planVm(spec: VmSpec, facts: Facts) {
  const { emulator, kvm, image, uefi, nics, shares } = facts;
  const machine = planMachine(spec, emulator, kvm);
  const disk = planDisk(spec.disks[0] ?? own, image);
  const { name, vcpus, memoryMiB, identity, smbios, clock } = spec;
  const platform = {
    name,
    uuid: 'd2bb7f40-c7a4-82a8-b8ad-25fbbb9ed84f',
    serial: identity.allocId,
    machine,
    vcpus,
    memoryMiB,
    ...(smbios && { smbios }),
    ...(clock && { clock }),
  };
  const share = { tag: 'localDir', path: '/run/vms/0a1b2c3d/shares/localDir', readOnly: true };
  const devices = [
    diskPart({
      id: 'disk',
      device: 'disk0',
      slot: { driver: 'virtio-blk-pci' },
      format: disk.format,
      ...(disk.base === undefined ? {} : { base: { id: 'base', format: disk.base } }),
      bootIndex: 0,
      serial: 'primary',
    }),
    readOnlyDisk({ id: 'seed', device: 'seed0', serial: 'cidata' }),
    ...(uefi ? [flash()] : []),
    ...nics.map((own, index) => nic({ index, ...own })),
    ...shares.map((type, index) =>
      type === '9p' ? ninePShare({ index, ...share }) : virtiofsShare({ index, ...share }),
    ),
  ];
  if (facts.watchdog !== undefined) devices.push(watchdog(facts.watchdog));
  if (facts.display !== undefined) devices.push(display(facts.display, machine.family));
  const line = lineOf(platform, devices, ['stdout', 'stderr']);
  return { line, machine, disk, memoryLimitBytes: memoryLimit(platform) };
}

interface Case {
  readonly spec?: Partial<VmSpec>;
  readonly facts?: Partial<Facts>;
}

const plans: Readonly<Record<string, Case>> = {
  'V-36 V-75 V-83 D3: an overlay of a qcow2 image, under TCG': {},
  'V-36 V-34 D3: an overlay of a raw image': {
    facts: { image: raw },
  },
  'V-38: a private copy of a qcow2 image, which is grown': {
    spec: { disks: [{ ...own, chained: false }] },
  },
  'V-38: a private copy of a raw image': {
    spec: { disks: [{ ...own, chained: false }] },
    facts: { image: raw },
  },
  'V-136: texts of SMBIOS with commas, and a clock with local time': {
    spec: {
      clock: 'localtime',
      smbios: { product: 'a,b', serial: 'ds=nocloud;s=http://a/,file=x' },
    },
  },
  'V-75: KVM where it works': { facts: { kvm: { usable: true, reason: '' } } },
  'V-75: TCG where it is asked for': {
    spec: { accelerator: 'tcg' },
    facts: { kvm: { usable: true, reason: '' } },
  },
  'V-80: UEFI has code that is shared and variables of its own': { facts: { uefi: true } },
  'V-108: two NICs, one of them with a smaller MTU': {
    facts: {
      nics: [
        { mac: '52:54:00:00:00:01', mtu: 1500, backend: { kind: 'tap' } },
        { mac: '52:54:00:00:00:02', mtu: 1400, backend: { kind: 'tap' } },
      ],
    },
  },
  'V-124: the user-mode network is closed but for its ports': {
    facts: {
      nics: [
        {
          mac: '52:54:00:00:00:01',
          backend: {
            kind: 'user',
            ports: [
              { hostIp: '', hostPort: 8080, guestPort: 80 },
              { hostIp: '127.0.0.1', hostPort: 8081, guestPort: 81 },
            ],
          },
        },
      ],
    },
  },
  'V-124: a tap of two queues': {
    facts: { nics: [{ mac: '52:54:00:00:00:01', backend: { kind: 'tap', queues: 2 } }] },
  },
  'V-124: a tap that the kernel serves, by vhost': {
    facts: { nics: [{ mac: '52:54:00:00:00:01', backend: { kind: 'tap', vhost: true } }] },
  },
  'V-124: a tap of two queues that the kernel serves': {
    facts: {
      nics: [{ mac: '52:54:00:00:00:01', backend: { kind: 'tap', queues: 2, vhost: true } }],
    },
  },
  'V-124: other cards than that of virtio': {
    facts: {
      nics: (['e1000e', 'rtl8139', 'vmxnet3'] as const).map((model, index) => ({
        mac: `52:54:00:00:00:0${index}`,
        mtu: 1400,
        model,
        backend: { kind: 'tap' },
      })),
    },
  },
  'V-68: a directory by virtiofs needs memory that is shared': {
    facts: { shares: ['virtiofs'] },
  },
  'V-68: a directory by 9p': { facts: { shares: ['9p'] } },
  'a watchdog comes after the other devices': { facts: { watchdog: 'reset' } },
  'V-83: a display that only root sees': {
    facts: { display: { video: 'virtio', vnc: { listen: [] } } },
  },
  'V-83: a display with a password, which is not on the command line': {
    facts: { display: { video: 'std', vnc: { password: 'hush', listen: [] } } },
  },
  'V-83: a screen alone': { facts: { display: { video: 'std' } } },
  'V-83: a display of arm64': {
    spec: { arch: 'aarch64' },
    facts: { emulator: arm, display: { video: 'virtio', vnc: { listen: [] } } },
  },
  'V-22 V-79: pc is the newest versioned pc machine': { spec: { machine: 'pc' } },
  'V-22 V-79: a machine by its versioned name': { spec: { machine: 'pc-q35-7.1' } },
  'V-22 V-79: arm64': { spec: { arch: 'aarch64' }, facts: { emulator: arm, uefi: true } },
  'V-72 V-73 V-74: sixteen CPUs and 64 GiB': { spec: { vcpus: 16, memoryMiB: 65_536 } },
};

/** All of the first plan, and of the others what is different. */
const first = describe(planVm(spec, facts));

for (const [title, { spec: change, facts: found }] of Object.entries(plans)) {
  test(`${title} (plan)`, (t) => {
    const plan = describe(planVm({ ...spec, ...change }, { ...facts, ...found }));
    if (change === undefined && found === undefined) t.assert.snapshot(plan);
    else {
      t.assert.snapshot({
        less: first.filter((line) => !plan.includes(line)),
        more: plan.filter((line) => !first.includes(line)),
      });
    }
  });
}

function describe(plan: ReturnType<typeof planVm>): readonly string[] {
  const { line, machine, disk, memoryLimitBytes } = plan;
  return [
    ...lines(line.argv),
    `descriptors from 3: ${line.files.join(' ')}`,
    `machine ${JSON.stringify(machine)}`,
    `disk ${JSON.stringify(disk)}`,
    `memory limit ${memoryLimitBytes / MiB} MiB`,
  ];
}

/** An option and its value on one line. */
function lines(argv: readonly string[]): readonly string[] {
  const found: string[] = [];
  for (const argument of argv) {
    const last = found.at(-1);
    if (argument.startsWith('-') || last === undefined || !last.startsWith('-'))
      found.push(argument);
    else found[found.length - 1] = `${last} ${argument}`;
  }
  return found;
}

test('V-80 V-66: whatever can be written or is secret is a descriptor, never a path', () => {
  const plan = planVm(spec, { ...facts, uefi: true, shares: ['virtiofs'] });
  const named = plan.line.argv.filter((it) => it.includes('/')).join('\n');
  for (const path of ['/data', '/run/vms', '/images', '/allocs', '/usr/share/OVMF']) {
    assert.ok(!named.includes(path), `${path} in ${named}`);
  }
});

test('P-25: a name with commas and blanks stays one value', () => {
  const { line } = planVm({ ...spec, name: 'a,b=c d' }, facts);
  assert.ok(line.argv.includes('guest=a,,b=c d,debug-threads=on'));
});

const refusals: Readonly<Record<string, Case & { readonly words: readonly RegExp[] }>> = {
  'V-37 D2 D29: a disk smaller than the image': {
    spec: { disks: [diskOn('/images/debian.qcow2', 2047)] },
    words: [/^primary_disk_size 2047 MiB is smaller than the image .*, which has 2048 MiB$/],
  },
  'V-75: KVM where it does not work': {
    spec: { accelerator: 'kvm' },
    words: [/^accelerator "kvm" is not available: there is no \/dev\/kvm here$/],
  },
  'V-22: a machine that QEMU does not have': {
    spec: { machine: 'pc-q35-99.0' },
    words: [
      /^os\.machine "pc-q35-99\.0" is not available in .*; supported: pc, pc-i440fx-7\.2, pc-i440fx-2\.12, q35, pc-q35-7\.2 to pc-q35-2\.9$/,
    ],
  },
  'V-22: a machine that QEMU has and the driver does not support': {
    spec: { machine: 'microvm' },
    words: [/^os\.machine "microvm" is not available/],
  },
  'more vCPUs than q35 has': {
    spec: { vcpus: 289 },
    words: [/^vcpus: 289 are more than the 288 that the machine type pc-q35-7\.2 has$/],
  },
  'more vCPUs than pc has': {
    spec: { vcpus: 256, machine: 'pc' },
    words: [/^vcpus: 256 are more than the 255 that the machine type pc-i440fx-7\.2 has$/],
  },
  'V-19: all of it': {
    spec: { machine: 'none', accelerator: 'kvm', disks: [diskOn('/images/debian.qcow2', 1)] },
    words: [/^accelerator/, /^os\.machine/, /^primary_disk_size/],
  },
};

/** What a check before the start would report of the machine and the disk. */
function problemsOf(wanted: VmSpec): readonly string[] {
  const problems = machineProblems(wanted, x86, noKvm).map(({ message }) => message);
  try {
    planDisk(wanted.disks[0] ?? own, image);
    return problems;
  } catch (error) {
    return [...problems, error instanceof Error ? error.message : ''];
  }
}

for (const [title, { spec: change, words }] of Object.entries(refusals)) {
  test(`${title}: is reported before anything is made`, () => {
    const wanted = { ...spec, ...change };
    const problems = problemsOf(wanted);
    assert.equal(problems.length, words.length, problems.join('\n'));
    for (const [index, pattern] of words.entries()) assert.match(problems[index] ?? '', pattern);
    assert.throws(() => planVm(wanted, facts), { name: /VmError|QemuError/ });
  });
}
