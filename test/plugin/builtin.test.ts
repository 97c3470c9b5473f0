import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { encode } from '@msgpack/msgpack';
import type { BuiltinLists } from '../../src/plugin/agent/builtin-lists.ts';
import { decodePluginConfig } from '../../src/plugin/agent/config.ts';
import { Driver, TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { dataDirOf, processPlugin, task } from './requests.ts';

const context = {
  driverName: 'qemu',
  hostArch: 'x86_64',
  limits: { minMemoryMiB: 64, minDiskMiB: 1, maxDiskMiB: 100_000, maxConnections: 8192 },
  pools: { pools: [], default: undefined },
} as const;

function plan(config: Record<string, unknown>, lists?: BuiltinLists) {
  const { spec, problems } = planTask(create(TaskConfigSchema, task({ config })), {
    ...context,
    ...(lists === undefined ? {} : { builtin: lists }),
  });
  return { spec, problems: problems.map(({ path, text }) => `${path}: ${text}`) };
}

const image_path = 'local/linux.img';

test('V-136: a job of the builtin driver has that driver’s defaults', () => {
  const { spec, problems } = plan({ image_path });
  assert.deepEqual(problems, []);
  const { arch, machine, accelerator, vcpus, disks, shares, seed } = spec;
  assert.deepEqual(
    { arch, machine, accelerator, vcpus, shares, seed },
    { arch: 'x86_64', machine: 'pc', accelerator: 'tcg', vcpus: 1, shares: [], seed: false },
  );
  assert.deepEqual(disks, [
    {
      key: 'image_path',
      name: 'sda',
      kind: 'disk',
      bus: 'ide',
      place: { kind: 'pool', pool: undefined },
      source: { kind: 'image', image: image_path },
      chained: true,
      readOnly: false,
      sparse: true,
      primary: true,
      discard: true,
    },
  ]);
});

test('V-136: its keys become what they mean', () => {
  const { spec, problems } = plan({
    image_path,
    accelerator: 'auto',
    drive_interface: 'virtio',
    emulator: 'qemu-system-aarch64',
    machine_type: 'virt-7.2',
    graceful_shutdown: true,
    guest_agent: true,
  });
  assert.deepEqual(problems, []);
  assert.equal(spec.arch, 'aarch64');
  assert.equal(spec.machine, 'virt-7.2');
  assert.equal(spec.accelerator, 'auto');
  assert.equal(spec.disks[0]?.bus, 'virtio');
  assert.equal(plan({ image_path, emulator: 'aarch64' }).spec.machine, 'virt');
});

test('V-136: keys of this driver go with them, and a seed only with those that set up the guest', () => {
  const { spec, problems } = plan({ image_path, vcpus: 2, user_data: '#cloud-config\n' });
  assert.deepEqual(problems, []);
  assert.equal(spec.vcpus, 2);
  assert.equal(spec.seed, undefined);
  assert.equal(spec.shares.length, 3);
  const own = plan({ image: '/images/a.raw', use_thin_copy: true });
  assert.deepEqual(own.problems, []);
  assert.equal(own.spec.disks[0]?.bus, 'virtio');
});

test('V-136: every problem of such a job is reported by its own key', () => {
  assert.deepEqual(plan({}).problems, ['image_path: must be set']);
  const lists = { args: [], emulators: ['aarch64'] };
  assert.deepEqual(plan({ image_path, image: 'a', drive_interface: 'floppy' }, lists).problems, [
    'emulator: "x86_64" is not an allowed emulator: aarch64',
    'image_path: can not be used together with image',
    'drive_interface: "floppy" is not supported: use ide, scsi or virtio',
  ]);
  assert.deepEqual(plan({ image_path, emulator: 'riscv64', drive_interface: 'x' }).problems, [
    'drive_interface: must be one of ide, scsi, virtio, none, sd, mtd, floppy, pflash, not "x"',
    'emulator: "riscv64" is not supported; supported are x86_64 and aarch64',
  ]);
});

test('V-136: the lists of the plugin block are for this driver name only', () => {
  const bytes = encode({ args_allowlist: ['-smp'], emulators_allowlist: ['qemu-system-x86_64'] });
  assert.deepEqual(decodePluginConfig(bytes, 'qemu').builtin, {
    args: ['-smp'],
    emulators: ['x86_64'],
  });
  assert.throws(
    () => decodePluginConfig(bytes, 'virt'),
    /args_allowlist: is for the driver name "qemu" only.*emulators_allowlist/,
  );
});

test('V-136: the attributes of the builtin driver are there under its name', async (t) => {
  const dataDir = dataDirOf(t);
  const { plugin, client } = await processPlugin({ dataDir, args: ['--driver-name', 'qemu'] });
  t.after(() => plugin[Symbol.asyncDispose]());
  const [first] = await client.stream(Driver.method.fingerprint, {}).until(1);
  assert.ok(first?.attributes['driver.qemu']);
  assert.ok(first.attributes['driver.qemu.version']);
  assert.ok(first.attributes['driver.qemu.emulators']);
  assert.ok(first.attributes['driver.virt.emulator.version']);
  const { spec } = await client.call(Driver.method.taskConfigSchema, {});
  assert.ok(spec?.block.case === 'object');
  const portMap = spec.block.value.attributes.port_map?.block;
  assert.deepEqual(portMap?.case === 'attr' && portMap.value.type, 'list(map(number))');
});
