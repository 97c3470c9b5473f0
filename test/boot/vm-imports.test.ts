import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type DiskSource, type DiskSpec, primaryDisk } from '#spec';
import { imageOf } from '../support/disks.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { booted, canRunVms, soon, VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;

const canImport = (t: TestContext): boolean =>
  canRunVms(t) && requireOrSkip(t, findProgram('qemu-img') !== undefined, 'needs qemu-img');

/** The guest's image in another format, in its task's directory. */
function converted(ground: VmGround, format: string, ...options: readonly string[]): string {
  const local = join(ground.taskDir, 'local');
  mkdirSync(local, { recursive: true });
  const image = imageOf(ground.spec(0)) ?? '';
  const args = [
    'convert',
    '-f',
    'raw',
    '-O',
    format,
    ...options,
    image,
    join(local, `disk.${format}`),
  ];
  execFileSync('qemu-img', args);
  return `local/disk.${format}`;
}

type Image = Extract<DiskSource, { kind: 'image' }>;

function diskFrom(source: Omit<Image, 'kind'>, changes: Partial<DiskSpec> = {}): DiskSpec {
  const disk = primaryDisk({ image: source.image, thin: true });
  return { ...disk, block: 1, source: { kind: 'image', ...source }, ...changes };
}

const storeOf = (ground: VmGround): string => join(ground.options.dataDir, 'image-store');
const keysIn = (store: string): readonly string[] =>
  existsSync(store) ? readdirSync(store).filter((name) => /^[0-9a-f]{64}$/.test(name)) : [];
const usersIn = (store: string): readonly string[] =>
  keysIn(store).flatMap((key) => readdirSync(join(store, key, 'users')));

for (const [format, options] of [
  ['vmdk', ['-o', 'subformat=streamOptimized']],
  ['vdi', []],
  ['vhdx', []],
  ['vpc', []],
] as const) {
  test(`design-4: a VM boots from a ${format}, which is imported once and kept for the next VM`, async (t) => {
    if (!canImport(t)) return;
    await using ground = VmGround.open();
    const image = converted(ground, format, ...options);
    const virtualizer = ground.virtualizer();
    const disks = [diskFrom({ image })];
    const domain = await virtualizer.createDomain(ground.spec(0, { disks }), soon());
    await booted(domain);
    const store = storeOf(ground);
    const [key = ''] = keysIn(store);
    assert.deepEqual(usersIn(store), ['vm-0']);
    const imports = (): number =>
      ground.events.filter(({ event }) => event.message === 'Importing the image').length;
    assert.ok(imports() > 0);
    const before = imports();
    const other = virtualizer.createDomain(
      ground.spec(0, { name: 'vm-1', disks: [diskFrom({ image })] }),
      soon(),
    );
    await other;
    assert.deepEqual(keysIn(store), [key]);
    assert.deepEqual(usersIn(store).toSorted(), ['vm-0', 'vm-1']);
    assert.ok(imports() - before <= 1, 'at most the checksum is reported');
    await virtualizer.destroyDomain('vm-0');
    await virtualizer.destroyDomain('vm-1');
    assert.deepEqual(usersIn(store), []);
    assert.deepEqual(keysIn(store), [key]);
  });
}

test('design-4: a raw image becomes the qcow2 that the job asks for, and a qcow2 the raw', async (t) => {
  if (!canImport(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const qcow2 = converted(ground, 'qcow2');
  const raw = converted(ground, 'raw');
  const wanted = [
    diskFrom({ image: qcow2 }, { chained: false, format: 'raw' }),
    diskFrom(
      { image: raw },
      { block: 2, name: 'vdb', primary: false, chained: false, format: 'qcow2' },
    ),
  ];
  const domain = await virtualizer.createDomain(ground.spec(0, { disks: wanted }), soon());
  await booted(domain);
  assert.equal(domain.attributes['disk.vda.format'], 'raw');
  assert.equal(domain.attributes['disk.vdb.format'], 'qcow2');
  const { dir } = ground.paths();
  assert.equal(readFileSync(join(dir, 'vm-0_vdb.img')).toString('latin1', 0, 3), 'QFI');
  const vmdk = converted(ground, 'vmdk');
  for (const [image, is, format] of [
    [vmdk, 'vmdk', 'raw'],
    [vmdk, 'vmdk', 'qcow2'],
    [vmdk, 'vmdk', 'vpc'],
    [raw, 'raw', 'vmdk'],
    [raw, 'raw', 'qcow2'],
    [qcow2, 'qcow2', 'vdi'],
    [qcow2, 'qcow2', 'vpc'],
  ] as const) {
    const spec = ground.spec(0, { disks: [diskFrom({ image, format })] });
    assert.deepEqual(await virtualizer.problemsOf(spec, soon()), [
      `disk[1].source.format: ${join(ground.taskDir, image)} is ${is}, not ${format}`,
    ]);
  }
  await virtualizer.destroyDomain('vm-0');
});

test('design-4: a checksum is compared for an image that is used as it is, and names both sums', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const image = imageOf(ground.spec(0)) ?? '';
  const hex = createHash('sha512').update(readFileSync(image)).digest('hex');
  const wrong = hex.replace(/^./, (digit) => (digit === '0' ? '1' : '0'));
  const create = (sum: string) => {
    const disks = [diskFrom({ image, checksum: { algorithm: 'sha512', hex: sum } })];
    return virtualizer.createDomain(ground.spec(0, { disks }), soon());
  };
  await assert.rejects(create(wrong), (error: Error) => {
    const sums = `has the checksum sha512:${hex}, not sha512:${wrong}`;
    assert.equal(error.message, `disk[1].source.checksum: ${image} ${sums}`);
    return 'code' in error && error.code === 'job';
  });
  await booted(await create(hex));
  assert.deepEqual(keysIn(storeOf(ground)), []);
});

test('design-4: hostile images of foreign formats are refused before anything is made, by the key of their disk', async (t) => {
  if (!canImport(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  converted(ground, 'vmdk');
  writeFileSync(join(ground.taskDir, 'local/flat.vmdk'), '# Disk DescriptorFile\nversion=1\n');
  const problems = await virtualizer.problemsOf(
    ground.spec(0, { disks: [diskFrom({ image: 'local/flat.vmdk' })] }),
    soon(),
  );
  assert.match(
    problems.join(),
    /^disk\[1\]\.source\.image: .*flat\.vmdk is refused as vmdk: it is a list of/,
  );
  const cut = 'local/disk.vmdk';
  truncateSync(join(ground.taskDir, cut), MiB / 2);
  const disks = [diskFrom({ image: cut })];
  const start = virtualizer.createDomain(ground.spec(0, { disks }), soon());
  await start.then(
    () => undefined,
    (error: Error) => assert.match(error.message, /^disk\[1\]\./),
  );
  assert.deepEqual(
    usersIn(storeOf(ground)),
    await start.then(
      () => ['vm-0'],
      () => [],
    ),
  );
});
