import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { encode } from '@msgpack/msgpack';
import type { VmSpec } from '#spec';
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
      inPlace: true,
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

test('V-136: disks past the letter z have the names of disks, not those of partitions', () => {
  const args = Array.from({ length: 27 }, () => ['-drive', 'file=a.img,if=virtio']).flat();
  const { spec } = plan({ image_path, drive_interface: 'virtio', args });
  assert.deepEqual(
    spec.disks.slice(25).map(({ name }) => name),
    ['vdz', 'vdaa', 'vdab'],
  );
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
    bridge: 'virbr0',
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

const net = (spec: VmSpec) => spec.nics.map((nic) => ({ ...nic }));
const port = (
  label: string,
  hostPort: number,
  guestPort: number,
  more: { readonly hostIp?: string; readonly protocol?: 'tcp' | 'udp' } = {},
) => ({ label, hostIp: '', hostPort, guestPort, ...more });
const tcp = { protocol: 'tcp' } as const;

test('V-136: a guest has the network that QEMU gives it, unless the job has another', () => {
  assert.deepEqual(net(plan({ image_path }).spec), [{ kind: 'user', ports: [], model: 'e1000' }]);
  for (const args of [['-nodefaults'], ['-net', 'none'], ['-nic', 'none']]) {
    assert.deepEqual(net(plan({ image_path, args }).spec), [], args.join(' '));
  }
  const own = [{ bridge: [{ name: 'virbr0' }] }];
  assert.equal(plan({ image_path, network_interface: own }).spec.nics[0]?.kind, 'bridge');
  assert.equal(plan({ image_path, machine_type: 'q35' }).spec.nics[0]?.model, 'e1000e');
});

test('V-136: where the operator has a managed network, that is the guest’s', () => {
  const lists = { args: [], emulators: [], bridge: 'virbr0' };
  const args = ['-nic', 'user,mac=52:54:00:12:34:56,hostfwd=tcp::2222-:22'];
  assert.deepEqual(net(plan({ image_path, args }, lists).spec), [
    {
      kind: 'bridge',
      bridge: 'virbr0',
      model: 'e1000',
      mac: '52:54:00:12:34:56',
      ports: [port('port-2222', 2222, 22, tcp)],
    },
  ]);
});

test('V-136: port_map and hostfwd forward the ports of the task to the guest', () => {
  const { spec, problems } = plan({
    image_path,
    port_map: [{ http: 8080 }],
    args: ['-netdev', 'user,id=n,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:20080-:53'],
  });
  assert.deepEqual(problems, []);
  assert.deepEqual(net(spec), [
    {
      kind: 'user',
      model: 'virtio',
      ports: [
        port('http', 20_080, 8080, { hostIp: '192.0.2.1' }),
        port('port-2222', 2222, 22, tcp),
        port('http', 20_080, 53, { hostIp: '127.0.0.1', protocol: 'udp' }),
      ],
    },
  ]);
  assert.deepEqual(plan({ image_path, port_map: [{ ssh: 22 }] }).problems, [
    'port_map.ssh: Unknown port label "ssh"',
  ]);
  const args = ['-net', 'nic', '-net', 'user,hostfwd=tcp::25-:25'];
  assert.deepEqual(plan({ image_path, args }).problems, [
    'args[2]: hostfwd: the port 25 is not the task\'s: reserve it, port "x" { static = 25 }',
  ]);
});

test('V-136: a port that both port_map and hostfwd lead to the guest is that of hostfwd, and of port_map for UDP', () => {
  const args = ['-net', 'nic', '-net', 'user,hostfwd=tcp::20080-:3389'];
  const { spec, problems } = plan({ image_path, port_map: [{ http: 80 }], args });
  assert.deepEqual(problems, []);
  assert.deepEqual(net(spec)[0]?.ports, [
    port('http', 20_080, 80, { hostIp: '192.0.2.1', protocol: 'udp' }),
    port('http', 20_080, 3389, tcp),
  ]);
});

test('V-136: a port of port_map that is the screen’s stays the screen’s', () => {
  const ports = [
    { label: 'web', value: 8223, hostIp: '192.0.2.1' },
    { label: 'vnc', value: 5904, to: 5904, hostIp: '192.0.2.1' },
  ];
  const config = {
    image_path,
    port_map: [{ vnc: 5904 }],
    args: ['-vnc', '0.0.0.0:4', '-net', 'nic', '-net', 'user,hostfwd=tcp::8223-:8123'],
  };
  const resources = { allocatedResources: { memory: { memoryMb: 512n } }, ports };
  const inGroup = { networkIsolationSpec: { mode: 1, path: '/var/run/netns/a1b2c3d4' } };
  for (const place of [{}, inGroup]) {
    const request = task({ config, resources, ...place });
    const { spec, problems } = planTask(create(TaskConfigSchema, request), context);
    assert.deepEqual(problems, []);
    const forwarded = spec.nics.flatMap((nic) => nic.ports.map(({ label }) => label));
    assert.deepEqual(forwarded, ['web']);
    assert.match(
      spec.notes?.join('\n') ?? '',
      /^The port "vnc" of port_map is that of the screen/m,
    );
  }
  // By hostfwd it is two programs at one port, for QEMU as well.
  const request = task({
    config: { image_path, args: ['-vnc', ':4', '-net', 'user,hostfwd=tcp::5904-:5904'] },
    resources,
  });
  assert.deepEqual(planTask(create(TaskConfigSchema, request), context).problems, [
    { path: 'args', text: '"vnc" is forwarded to the guest already; use another port' },
  ]);
});

test('V-136: a network of args may be a bridge of the host, beside the user-mode network', () => {
  const bridge = ['-netdev', 'bridge,id=hn0,br=br1'];
  const card = ['-device', 'virtio-net-pci,netdev=hn0,id=nic1,mac=52:54:84:ba:49:20'];
  const onBridge = { kind: 'bridge', bridge: 'br1', model: 'virtio', mac: '52:54:84:ba:49:20' };
  const { spec, problems } = plan({ image_path, args: [...bridge, ...card] });
  assert.deepEqual(problems, []);
  assert.deepEqual(net(spec), [{ ...onBridge, ports: [] }]);
  const both = plan({
    image_path,
    port_map: [{ http: 80 }],
    args: [...bridge, ...card, '-nic', 'user,model=e1000,hostfwd=tcp::2222-:22'],
  });
  assert.deepEqual(both.problems, []);
  assert.deepEqual(net(both.spec), [
    { ...onBridge, ports: [] },
    {
      kind: 'user',
      model: 'e1000',
      ports: [port('http', 20_080, 80, { hostIp: '192.0.2.1' }), port('port-2222', 2222, 22, tcp)],
    },
  ]);
  const old = plan({ image_path, args: ['-net', 'bridge,br=virbr0', '-net', 'nic,model=virtio'] });
  assert.deepEqual(old.problems, []);
  assert.deepEqual(net(old.spec), [
    { kind: 'bridge', bridge: 'virbr0', model: 'virtio', ports: [] },
  ]);
  assert.deepEqual(net(plan({ image_path, args: bridge }).spec), []);
});

test('V-136: networks and cards that can not be joined are reported', () => {
  for (const [text, problem] of [
    [
      '-net user -net bridge,br=br1',
      'args[2]: -net has one network: give each an id, with -netdev and -device',
    ],
    ['-net user -net nic -net nic', 'args[4]: its network has a card already'],
    [
      '-netdev bridge,id=a -device e1000,netdev=a -device e1000,netdev=a',
      'args[4]: its network has a card already',
    ],
    [
      '-netdev user,id=a -netdev user,id=b',
      'args[2]: only one user-mode network is possible: its guests all have one address',
    ],
    ['-device e1000,netdev=x', 'args[0]: there is no network with id=x'],
  ] as const) {
    assert.deepEqual(plan({ image_path, args: text.split(' ') }).problems, [problem], text);
  }
});

test('V-136 V-125: in the network of a group the guest has its forwarded ports there, by the numbers that the task calls them', () => {
  const ports = [
    { label: 'ssh', value: 20_022, to: 0, hostIp: '192.0.2.1' },
    { label: 'db', value: 20_033, to: 3306, hostIp: '192.0.2.1' },
    { label: 'vnc', value: 20_059, to: 8080, hostIp: '192.0.2.1' },
  ];
  const resources = { allocatedResources: { memory: { memoryMb: 512n } }, ports };
  const netns = '/var/run/netns/a1b2c3d4';
  const inGroup = (config: Record<string, unknown>) =>
    planTask(
      create(
        TaskConfigSchema,
        task({ config, resources, networkIsolationSpec: { mode: 1, path: netns } }),
      ),
      { ...context, builtin: { args: [], emulators: [], bridge: 'virbr0' } },
    );
  const { spec, problems } = inGroup({
    image_path,
    port_map: [{ db: 27_017 }],
    args: ['-device', 'e1000,netdev=n', '-netdev', 'user,id=n,hostfwd=tcp::20022-:22'],
  });
  assert.deepEqual(problems, []);
  assert.deepEqual(net(spec), [
    {
      kind: 'group',
      netns,
      model: 'e1000',
      ports: [
        { ...port('db', 20_033, 27_017, { hostIp: '192.0.2.1' }), groupPort: 3306 },
        { ...port('ssh', 20_022, 22), groupPort: 20_022 },
      ],
    },
  ]);
  const screen = inGroup({ image_path, args: ['-vnc', ':1'] }).spec;
  const own = { netns, port: 5901, address: '127.0.0.1' };
  assert.deepEqual(screen.display?.vnc?.listen, [
    { label: 'port-5901', hostIp: '127.0.0.1', hostPort: 5901, inGroup: own },
  ]);
  assert.match(
    screen.notes?.join() ?? '',
    /^The screen is for the tasks of this group only, by VNC/,
  );
  // What other tasks of the group serve stays theirs.
  assert.deepEqual(net(inGroup({ image_path }).spec), [
    { kind: 'group', netns, model: 'e1000', ports: [] },
  ]);
  assert.deepEqual(net(inGroup({ image_path, args: ['-nodefaults'] }).spec), []);
});

test('V-136 V-65: Ignition by fw_cfg is user data, without a seed', () => {
  const args = ['-fw_cfg', 'name=opt/com.coreos/config,file=local/config.ign'];
  const { spec, problems } = plan({ image_path, args });
  assert.deepEqual(problems, []);
  assert.equal(spec.seed, false);
  assert.deepEqual(spec.guest.userData, { kind: 'file', path: 'local/config.ign' });
  assert.deepEqual(plan({ image_path, args, user_data: '#cloud-config\n' }).problems, [
    'args[0]: -fw_cfg can not be used together with user_data',
  ]);
});

test('V-136: a guest that must not restart ends its VM instead', () => {
  assert.equal(plan({ image_path, args: ['-no-reboot'] }).spec.endsAtReset, true);
  assert.equal(plan({ image_path }).spec.endsAtReset, undefined);
});

test('V-136: disks of args are as in their drive and device', () => {
  const { spec, problems } = plan({
    image_path,
    drive_interface: 'none',
    args: [
      ...['-device', 'virtio-blk-pci,drive=image0'],
      ...['-drive', 'file=/images/data.img,if=none,id=d,format=raw', '-device', 'scsi-hd,drive=d'],
      ...['-drive', 'file=unused.img,if=none,id=u'],
      ...['-cdrom', 'local/seed.iso', '-boot', 'd'],
    ],
  });
  assert.deepEqual(problems, []);
  const shown = spec.disks.map(({ key, name, kind, bus, primary, readOnly, inPlace = false }) =>
    [key, name, kind, bus, primary, readOnly, inPlace].join(' '),
  );
  assert.deepEqual(shown, [
    'image_path vda disk virtio false false true',
    'args[2] sda disk scsi false false true',
    'args[8] sdb cdrom ide true true false',
  ]);
  const snapshot = plan({ image_path, args: ['-snapshot'] }).spec.disks[0];
  assert.equal(snapshot?.inPlace, undefined);
  assert.deepEqual(plan({ image_path, args: ['-device', 'ide-hd,drive=x'] }).problems, [
    'args[0]: -device: there is no -drive with id=x',
  ]);
});

test('V-136: a kernel of args has its initrd and command line, which are nothing without it', () => {
  const initrd = ['-initrd', 'local/initrd', '-append', 'console=ttyS0 quiet'];
  const { spec, problems } = plan({ image_path, args: ['-kernel', '/local/vmlinuz', ...initrd] });
  assert.deepEqual(problems, []);
  assert.deepEqual(spec.kernel, {
    kernel: '/local/vmlinuz',
    initrd: 'local/initrd',
    commandLine: 'console=ttyS0 quiet',
  });
  assert.deepEqual(plan({ image_path, args: initrd }).problems, [
    'args[0]: -initrd needs -kernel',
    'args[2]: -append needs -kernel',
  ]);
});

test('V-136: a directory is a disk that can be written to only where the job or its bus wants that', () => {
  const accessOf = (...args: readonly string[]): readonly unknown[] => {
    const { spec, problems } = plan({ image_path, args });
    assert.deepEqual(problems, []);
    const { source, kind, bus, readOnly, inPlace } = spec.disks[1] ?? {};
    assert.deepEqual(source, { kind: 'directory', directory: 'local/seed', label: 'QEMU VVFAT' });
    return [kind, bus, readOnly, inPlace];
  };
  const file = 'fat:local/seed';
  assert.deepEqual(accessOf('-drive', `file=${file},if=virtio`), [
    'disk',
    'virtio',
    true,
    undefined,
  ]);
  assert.deepEqual(accessOf('-drive', 'file=fat:rw:local/seed,if=virtio,format=raw').slice(0, 3), [
    'disk',
    'virtio',
    false,
  ]);
  assert.deepEqual(accessOf('-hdb', file).slice(0, 3), ['disk', 'ide', false]);
  assert.deepEqual(
    accessOf('-drive', `file=${file},if=none,id=s`, '-device', 'scsi-hd,drive=s').slice(0, 3),
    ['disk', 'scsi', true],
  );
});

test('V-136: the guest has at most the memory of its task', () => {
  assert.equal(plan({ image_path, args: ['-m', '256'] }).spec.memoryMiB, 256);
  const { spec, problems } = plan({ image_path, args: ['-m', '1G'] });
  assert.deepEqual(problems, []);
  assert.equal(spec.memoryMiB, 512);
  assert.deepEqual(spec.notes, [
    'The guest has 512 MiB, the memory of its task, and not the 1024 of -m: write memory = 1024 in resources',
  ]);
});

test('V-136: directories of the task are shared by 9p, others are refused', () => {
  const virtfs = (path: string) => ['-virtfs', `local,path=${path},mount_tag=t`];
  const dir = '/var/nomad/alloc/a1b2c3d4';
  for (const [path, source] of [
    ['/local', `${dir}/web/local`],
    ['local/sub/', `${dir}/web/local/sub`],
    ['/alloc/data', `${dir}/alloc/data`],
    [`${dir}/web/local`, `${dir}/web/local`],
  ] as const) {
    const { spec, problems } = plan({ image_path, args: virtfs(path) });
    assert.deepEqual(problems, []);
    assert.deepEqual(spec.shares, [
      { tag: 't', source, target: '/mnt/t', readOnly: true, ninePfs: true },
    ]);
  }
  for (const path of [
    '/etc',
    '/local/../../../etc',
    '/',
    `${dir}/other/local`,
    '/localhost',
    '..',
  ]) {
    assert.match(plan({ image_path, args: virtfs(path) }).problems[0] ?? '', /use a volume_mount/);
  }
  const args = ['-virtfs', 'local,path=/local,mount_tag=../x'];
  assert.match(plan({ image_path, args }).problems[0] ?? '', /args\[0\]: mount_tag "..\/x" is not/);
});

test('V-136: the screen of -vnc is on the loopback, whatever address is written', () => {
  const { spec, problems } = plan({ image_path, args: ['-vnc', '0.0.0.0:1', '-vga', 'std'] });
  assert.deepEqual(problems, []);
  assert.deepEqual(spec.display, {
    video: 'std',
    vnc: { listen: [{ label: 'port-5901', hostIp: '127.0.0.1', hostPort: 5901 }] },
  });
});

test('V-136: what args set of the machine wins over its keys', () => {
  const { spec, problems } = plan({
    image_path,
    accelerator: 'kvm',
    machine_type: 'pc',
    args: [
      ...['-machine', 'q35,accel=tcg', '-smp', '2', '-rtc', 'base=localtime'],
      ...['-device', 'i6300esb', '-watchdog-action', 'poweroff', '-bios', '/x/OVMF.fd'],
      ...['-smbios', 'type=1,serial=ds=nocloud'],
    ],
  });
  assert.deepEqual(problems, []);
  const { machine, accelerator, vcpus, clock, watchdog, firmware, smbios } = spec;
  assert.deepEqual(
    { machine, accelerator, vcpus, clock, watchdog, firmware, smbios },
    {
      machine: 'q35',
      accelerator: 'tcg',
      vcpus: 2,
      clock: 'localtime',
      watchdog: { action: 'poweroff' },
      firmware: 'uefi',
      smbios: { serial: 'ds=nocloud' },
    },
  );
});

test('V-136: a flash memory is UEFI of the host, and an event reports that its variables are not those of the job', () => {
  const code = ['-drive', 'if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd'];
  const variables = ['-drive', 'if=pflash,format=raw,file=local/nvram.bin'];
  const { spec, problems } = plan({ image_path, args: [...variables, ...code, '-m', '9999'] });
  assert.deepEqual(problems, []);
  assert.equal(spec.firmware, 'uefi');
  assert.equal(spec.disks.length, 1);
  assert.match(spec.notes?.[0] ?? '', /^The guest has .* MiB/);
  assert.match(spec.notes?.[1] ?? '', /^The UEFI variables of "local\/nvram.bin" are not used: /);
  assert.deepEqual(plan({ image_path, firmware: 'uefi', args: variables }).problems, []);
  assert.deepEqual(plan({ image_path, args: variables }).problems, [
    'args[0]: "local/nvram.bin": the firmware is the host\'s; use firmware = "uefi" or "bios"',
  ]);
});

test('V-136: each key that sets up the guest brings the seed', () => {
  for (const keys of [
    { hostname: 'web' },
    { default_user_authorized_ssh_keys: ['ssh-ed25519 AAAA me@example'] },
    { meta_data: [{ role: 'web' }] },
    { network_config: 'local/network.yml' },
  ]) {
    assert.notEqual(plan({ image_path, ...keys }).spec.seed, false, JSON.stringify(keys));
  }
  assert.equal(plan({ image_path }).spec.seed, false);
});

test('V-136: of several -accel the first that works is taken, of other options the last', () => {
  const accelerator = (text: string) =>
    plan({ image_path, args: text.split(' ') }).spec.accelerator;
  assert.equal(accelerator('-accel kvm -accel tcg'), 'auto');
  assert.equal(accelerator('-accel tcg -accel kvm'), 'tcg');
  assert.equal(accelerator('-accel kvm'), 'kvm');
  assert.equal(accelerator('-accel kvm -accel kvm,kernel-irqchip=split'), 'kvm');
  assert.equal(accelerator('-enable-kvm -machine q35,accel=tcg'), 'tcg');
  assert.equal(accelerator('-machine q35,accel=kvm:tcg'), 'auto');
  assert.equal(plan({ image_path, accelerator: 'kvm:tcg' }).spec.accelerator, 'auto');
});

test('V-136: args_allowlist refuses what is not in it, as in the builtin driver', () => {
  const lists = { args: ['-smp'], emulators: [] };
  assert.deepEqual(plan({ image_path, args: ['-smp', '2', '-nographic'] }, lists).problems, [
    'args[2]: "-nographic" is not in args_allowlist',
  ]);
});

test('V-136: only the guest agent has a socket', () => {
  const chardev = ['-chardev', 'socket,path=qga.sock,server=on,wait=off,id=qga0'];
  const agent = ['-device', 'virtserialport,chardev=qga0,name=org.qemu.guest_agent.0'];
  const serial = ['-device', 'virtio-serial'];
  assert.deepEqual(plan({ image_path, args: [...chardev, ...serial, ...agent] }).problems, []);
  assert.match(
    plan({ image_path, args: chardev }).problems[0] ?? '',
    /^args\[0\]: -chardev socket/,
  );
});

test('V-136: the user that QEMU ran as is of no meaning here', () => {
  const config = create(TaskConfigSchema, task({ config: { image_path }, user: 'root' }));
  assert.deepEqual(planTask(config, context).problems, []);
});
