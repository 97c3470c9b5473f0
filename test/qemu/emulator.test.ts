import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findProgram } from '#host';
import { findEmulators } from '#qemu';
import { parseMachines, parseVersion } from '../../src/qemu/emulator.ts';
import { findFirmware, parseDescriptor } from '../../src/qemu/firmware.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';

const waiting = (ms = 10_000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });

const versions: Record<string, [string, string, number]> = {
  'of Debian': ['QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)', '7.2.22', 7_002_022],
  'built by hand': ['QEMU emulator version 11.1.0\nCopyright', '11.1.0', 11_001_000],
  'of Red Hat': ['QEMU emulator version 9.1.0 (qemu-kvm-9.1.0-15.el9)', '9.1.0', 9_001_000],
  'before a release': [
    'QEMU emulator version 10.1.50 (v10.1.0-1-gabc-dirty)',
    '10.1.50',
    10_001_050,
  ],
};
for (const [name, [text, version, versionNumber]] of Object.entries(versions)) {
  test(`the version is read from an emulator ${name}`, () => {
    assert.deepEqual(parseVersion(text), { version, versionNumber });
  });
}

test('what is no version is none', () => {
  for (const text of ['', 'qemu-img version 7.2.22', 'QEMU emulator version x.y']) {
    assert.equal(parseVersion(text), undefined);
  }
});

const machineHelp = `Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)
none                 empty machine
x-remote             Experimental remote machine
`;

test('V-13: machines are listed, and the default is the one the alias stands for', () => {
  assert.deepEqual(parseMachines(machineHelp, 'q35'), {
    names: ['microvm', 'pc', 'pc-i440fx-7.2', 'q35', 'pc-q35-7.2', 'none', 'x-remote'],
    versionedDefault: 'pc-q35-7.2',
  });
  assert.equal(parseMachines(machineHelp, 'virt').versionedDefault, undefined);
  const plain = 'Supported machines are:\nvirt  ARM Virtual Machine\n';
  assert.equal(parseMachines(plain, 'virt').versionedDefault, 'virt');
});

/** A directory with a script in the place of an emulator, that counts how often it runs. */
function fakeEmulator(
  t: TestContext,
  body: string,
  names: readonly string[] = ['qemu-system-x86_64'],
): { readonly path: string; runs(): number } {
  const path = tmpDir(t);
  const counter = join(path, 'runs');
  writeFileSync(counter, '');
  for (const name of names) {
    writeFileSync(join(path, name), `#!/bin/sh\necho >>${counter}\n${body}\n`);
    chmodSync(join(path, name), 0o755);
  }
  return { path, runs: () => readFileSync(counter, 'utf8').length };
}

const honest = `case "$1" in
--version) echo 'QEMU emulator version 8.1.2 (fake)';;
-machine) printf 'Supported machines are:\\nq35  PC (alias of pc-q35-8.1)\\npc-q35-8.1 PC\\n';;
-device) printf 'name "virtio-9p-pci", bus PCI, alias "virtio-9p"\\n';;
-M) echo '{"QMP":{}}'; echo '{"return":{}}'
  echo '{"return":[{"name":"pc-q35-8.1","alias":"q35","cpu-max":288},{"name":"none","cpu-max":1}]}';;
esac`;

test('V-16: an emulator is asked once, and again when its file changes', async (t) => {
  const { path, runs } = fakeEmulator(t, honest);
  const ask = async () =>
    (await findEmulators(waiting(), { path })).usable.find((it) => it.arch === 'x86_64');
  const [first, second] = await Promise.all([ask(), ask()]);
  assert.deepEqual(first, second);
  assert.deepEqual(
    { ...first, firmware: [] },
    {
      arch: 'x86_64',
      path: join(path, 'qemu-system-x86_64'),
      version: '8.1.2',
      versionNumber: 8_001_002,
      machines: ['q35', 'pc-q35-8.1'],
      defaultMachine: 'pc-q35-8.1',
      maxVcpus: new Map([
        ['pc-q35-8.1', 288],
        ['q35', 288],
        ['none', 1],
      ]),
      virtioFs: false,
      ninePfs: true,
      devices: new Set(['virtio-9p-pci']),
      firmware: [],
    },
  );
  assert.equal(runs(), 4);
  const file = join(path, 'qemu-system-x86_64');
  writeFileSync(file, readFileSync(file, 'utf8').replace('8.1.2', '8.1.30'));
  assert.equal((await ask())?.version, '8.1.30');
  assert.equal(runs(), 8);
});

test('V-16: firmware that is installed or removed later is noticed, although the emulator is not asked again', async (t) => {
  const { path, runs } = fakeEmulator(t, honest);
  const firmware = tmpDir(t);
  const codes = async () => {
    const found = await findEmulators(waiting(), { path, firmware: [firmware] });
    const emulator = found.usable.find((it) => it.arch === 'x86_64');
    return emulator?.firmware.map(({ code }) => code).filter((it) => it.startsWith(firmware));
  };
  assert.deepEqual(await codes(), []);
  const code = join(firmware, 'code.fd');
  const mapping = {
    device: 'flash',
    executable: { filename: code },
    'nvram-template': { filename: code },
  };
  writeFileSync(code, '');
  writeFileSync(join(firmware, '50-new.json'), JSON.stringify({ ...descriptor, mapping }));
  assert.deepEqual(await codes(), [code]);
  rmSync(code);
  assert.deepEqual(await codes(), []);
  assert.equal(runs(), 4);
});

const broken: Record<string, [string, RegExp]> = {
  'fails to start': ['echo "libfoo.so: cannot open" >&2; exit 127', /exit 127: libfoo.so/],
  'is no QEMU at all': ['echo hello', /reports neither its version nor/],
};
for (const [name, [body, words]] of Object.entries(broken)) {
  test(`V-17: an emulator that ${name} is named with the reason, and asked anew the next time`, async (t) => {
    const { path, runs } = fakeEmulator(t, body);
    const { broken } = await findEmulators(waiting(), { path });
    assert.deepEqual(
      broken.map(({ arch }) => arch),
      ['x86_64'],
    );
    assert.match(broken[0]?.reason ?? '', words);
    const before = runs();
    await findEmulators(waiting(), { path });
    assert.ok(runs() > before);
  });
}

test('of the emulators for other architectures than the one in question none is asked', async (t) => {
  const { path, runs } = fakeEmulator(t, 'exit 1', ['qemu-system-aarch64']);
  const { broken } = await findEmulators(waiting(), { path, arch: 'x86_64' });
  assert.deepEqual([broken, runs()], [[], 0]);
});

test('an emulator that hangs is left alone when patience ends', async (t) => {
  const { path } = fakeEmulator(t, 'sleep 60');
  const begin = Date.now();
  const { usable, broken } = await findEmulators(waiting(100), { path });
  assert.ok(!usable.some(({ arch }) => arch === 'x86_64'));
  assert.match(broken.find(({ arch }) => arch === 'x86_64')?.reason ?? '', /^running /);
  assert.ok(Date.now() - begin < patient(5000));
});

test('programs are found in order of the path, executable files only', (t) => {
  const dir = tmpDir(t);
  for (const name of ['one', 'two', 'three']) mkdirSync(join(dir, name));
  mkdirSync(join(dir, 'one/nq-tool'));
  writeFileSync(join(dir, 'two/nq-tool'), '');
  writeFileSync(join(dir, 'three/nq-tool'), '');
  chmodSync(join(dir, 'three/nq-tool'), 0o755);
  const path = `${dir}/one:${dir}/two:relative::${dir}/three`;
  assert.equal(findProgram('nq-tool', [], path), join(dir, 'three/nq-tool'));
  assert.equal(findProgram('nq-tool', [join(dir, 'three')], ''), join(dir, 'three/nq-tool'));
  assert.equal(findProgram('nq-tool', [], ''), undefined);
  assert.equal(findProgram('sh', [], '')?.endsWith('/bin/sh'), true);
});

const descriptor = {
  'interface-types': ['uefi'],
  mapping: {
    device: 'flash',
    executable: { filename: '/fw/code.fd', format: 'raw' },
    'nvram-template': { filename: '/fw/vars.fd', format: 'raw' },
  },
  targets: [{ architecture: 'x86_64', machines: ['pc-q35-*'] }],
  features: ['acpi-s3', 'requires-smm', 'secure-boot'],
};

test('V-16: a firmware descriptor is read', () => {
  assert.deepEqual(parseDescriptor(JSON.stringify(descriptor), 'x86_64'), {
    code: '/fw/code.fd',
    vars: '/fw/vars.fd',
    format: 'raw',
    secureBoot: true,
    needsSmm: true,
  });
});

const otherDescriptors: Record<string, unknown> = {
  'another architecture': { ...descriptor, targets: [{ architecture: 'arm' }] },
  'BIOS firmware': { ...descriptor, 'interface-types': ['bios'] },
  'firmware in memory': { ...descriptor, mapping: { ...descriptor.mapping, device: 'memory' } },
  'firmware without variables': {
    ...descriptor,
    mapping: { ...descriptor.mapping, 'nvram-template': undefined },
  },
  'a list': [],
  'a number': 3,
  nothing: null,
};
for (const [name, value] of Object.entries(otherDescriptors)) {
  test(`a descriptor of ${name} is passed over`, () => {
    assert.equal(parseDescriptor(JSON.stringify(value), 'x86_64'), undefined);
  });
}

test('firmware is listed in the order of the descriptors, the first directory overruling', (t) => {
  const dir = tmpDir(t);
  for (const name of ['etc', 'usr']) mkdirSync(join(dir, name));
  const describe = (place: string, code: string): void => {
    const files = {
      executable: { filename: join(dir, code) },
      'nvram-template': { filename: dir },
    };
    const text = JSON.stringify({ ...descriptor, mapping: { device: 'flash', ...files } });
    writeFileSync(join(dir, place), text);
  };
  for (const code of ['first', 'second', 'third']) writeFileSync(join(dir, code), '');
  describe('usr/60-plain.json', 'third');
  describe('usr/50-secure.json', 'second');
  describe('etc/60-plain.json', 'first');
  describe('usr/70-missing.json', 'not-installed');
  writeFileSync(join(dir, 'usr/10-torn.json'), '{');
  const found = findFirmware('x86_64', [join(dir, 'etc'), join(dir, 'usr'), join(dir, 'none')]);
  const own = found.map((it) => it.code).filter((code) => code.startsWith(dir));
  assert.deepEqual(own, [join(dir, 'second'), join(dir, 'first')]);
});
