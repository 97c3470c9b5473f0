import assert from 'node:assert/strict';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { readBytes } from '../../src/image/index.ts';
import { allowedFiles } from '../../src/vm/devices/allowed-files.ts';
import { kindOfRefusal } from '../support/refused.ts';
import { tmpDir } from '../support/tmp.ts';

const soon = () => ({ signal: AbortSignal.timeout(5000) });

/** Files that task "web" of allocation A may name as its disk. */
const open = [
  'images/base.img',
  'images/debian/12.img',
  'data/own.img',
  'nomad/alloc/A/alloc/data/shared.img',
  'nomad/alloc/A/web/local/artifact.img',
  'nomad/alloc/A/web/secrets/user-data',
];

/** Whose files are nobody's disk: neighbours' in the same allocation and in others, Nomad's own, the driver's own. */
const closed = [
  'data/vms/other-1/other-1.img',
  'data/uids/1900000000',
  'data/networks/virbr0/192.168.122.77',
  'run/0badcafe/seed.iso',
  'nomad/alloc/A/web/private/vault_token',
  'nomad/alloc/A/web-2/local/artifact.img',
  'nomad/alloc/A/sidecar/etc/shadow',
  'nomad/alloc/A/sidecar/local/artifact.img',
  'nomad/alloc/A/sidecar/secrets/nomad_token',
  'nomad/alloc/A/sidecar/private/vault_token',
  'nomad/alloc/B/alloc/data/shared.img',
  'nomad/alloc/B/web/secrets/nomad_token',
];

interface Job {
  readonly at: (path: string) => string;
  /** What task "web" of allocation A gets when it names that, or the code of the error. */
  read(name: string): Promise<string>;
  message(name: string): Promise<string>;
}

/** A client with data_dir, run_dir and image_paths side by side, or as they are given, below one directory. */
function jobOn(
  t: TestContext,
  {
    imagePaths = ['images'],
    hasShares = true,
  }: { readonly imagePaths?: readonly string[]; readonly hasShares?: boolean } = {},
): Job {
  const root = tmpDir(t);
  const at = (path: string): string => join(root, path);
  for (const file of [...open, ...closed]) {
    mkdirSync(dirname(at(file)), { recursive: true });
    writeFileSync(at(file), file);
  }
  const allocDir = at('nomad/alloc/A');
  const taskDir = join(allocDir, 'web');
  const share = (tag: string, source: string, target: string) => ({
    tag,
    source,
    target,
    readOnly: true,
  });
  const shares = [
    share('allocDir', `${allocDir}/alloc`, '/alloc'),
    share('localDir', `${taskDir}/local`, '/local'),
    share('secretsDir', `${taskDir}/secrets`, '/secrets'),
  ];
  const roots = allowedFiles(
    { allocDir, taskDir, shares: hasShares ? shares : [] },
    {
      dataDir: at('data'),
      runDir: at('run'),
      imagePaths: imagePaths.map(at),
      pools: { pools: [], default: undefined },
    },
  );
  const bytes = (name: string) => readBytes(name, roots, { maxBytes: 1000 }, soon());
  return {
    at,
    read: (name) => bytes(name).then((it) => Buffer.from(it).toString(), kindOfRefusal),
    message: (name) =>
      bytes(name).then(
        () => 'no failure',
        (error: Error) => error.message.replaceAll(root, ''),
      ),
  };
}

const allowed: Readonly<Record<string, string>> = {
  'local/artifact.img': 'nomad/alloc/A/web/local/artifact.img',
  'secrets/user-data': 'nomad/alloc/A/web/secrets/user-data',
  'alloc/data/shared.img': 'nomad/alloc/A/alloc/data/shared.img',
  '../alloc/data/shared.img': 'nomad/alloc/A/alloc/data/shared.img',
  'web/local/artifact.img': 'nomad/alloc/A/web/local/artifact.img',
  'base.img': 'images/base.img',
  'debian/12.img': 'images/debian/12.img',
  '@images/base.img': 'images/base.img',
  '@data/own.img': 'data/own.img',
  '@nomad/alloc/A/web/local/artifact.img': 'nomad/alloc/A/web/local/artifact.img',
  '@nomad/alloc/A/alloc/data/shared.img': 'nomad/alloc/A/alloc/data/shared.img',
};

test('V-32 V-33: a job may name files of its own task, of the allocation and of the operator', async (t) => {
  const { at, read } = jobOn(t);
  for (const [name, expected] of Object.entries(allowed)) {
    assert.equal(await read(name.startsWith('@') ? at(name.slice(1)) : name), expected, name);
  }
});

for (const imagePaths of [['images'], ['images', '.'], ['images', 'nomad', 'run', 'data']]) {
  test(`V-33: the files of other tasks and of the driver are closed, with image_paths ${imagePaths}`, async (t) => {
    const { at, read } = jobOn(t, { imagePaths });
    for (const file of closed) {
      assert.equal(await read(at(file)), 'not-allowed', file);
      const link = at('nomad/alloc/A/web/local/link');
      symlinkSync(at(file), link);
      assert.equal(await read('local/link'), 'not-allowed', `a link to ${file}`);
      rmSync(link);
    }
    assert.equal(await read(at('images/base.img')), 'images/base.img');
    assert.equal(await read('local/artifact.img'), 'nomad/alloc/A/web/local/artifact.img');
  });
}

test('V-33: what is reported of a neighbour is the same whether its file exists or not', async (t) => {
  const { message } = jobOn(t);
  for (const name of ['../sidecar/private/', 'sidecar/private/', '../../B/web/secrets/']) {
    const [there, missing] = [await message(`${name}vault_token`), await message(`${name}none`)];
    assert.equal(there.replaceAll('vault_token', 'none'), missing);
  }
});

test('V-32: a file that another task of the group made is refused with where to write it', async (t) => {
  const { at, message } = jobOn(t);
  for (const name of ['artifact.img', 'none.img']) {
    const text = await message(at(`nomad/alloc/A/sidecar/local/${name}`));
    assert.match(text, /is in the directory of another task, which is closed: .* share alloc\//);
  }
});

const seen: Readonly<Record<string, string>> = {
  '/alloc/data/shared.img': 'nomad/alloc/A/alloc/data/shared.img',
  '/local/artifact.img': 'nomad/alloc/A/web/local/artifact.img',
  '/local/../local/artifact.img': 'nomad/alloc/A/web/local/artifact.img',
  '/secrets/user-data': 'nomad/alloc/A/web/secrets/user-data',
  '/secrets/../private/vault_token': 'not-allowed',
  '/alloc/../../B/alloc/data/shared.img': 'not-allowed',
  '/alloc': 'not-regular',
  '/allocation/x': 'not-allowed',
  '/local/none.img': 'not-found',
};

test('V-32: paths as the job sees them mean its own directories on the host', async (t) => {
  const { read } = jobOn(t);
  for (const [name, expected] of Object.entries(seen)) {
    assert.equal(await read(name), expected, name);
  }
});

test('V-32 V-136: they mean the same in a job whose guest has none of them', async (t) => {
  const job = jobOn(t, { hasShares: false });
  assert.equal(await job.read('/local/artifact.img'), 'nomad/alloc/A/web/local/artifact.img');
  assert.equal(await job.read('/alloc/data/shared.img'), 'nomad/alloc/A/alloc/data/shared.img');
});

test('V-32: a file that is not there is not found, and the error names where it was looked for', async (t) => {
  const { at, message } = jobOn(t);
  assert.equal(
    await message('/local/none.img'),
    'there is no file /local/none.img (/nomad/alloc/A/web/local/none.img on the host)',
  );
  assert.equal(
    await message('local/none.img'),
    'there is no file local/none.img in /nomad/alloc/A/web, /images',
  );
  assert.equal(
    await message('alloc/none.img'),
    'there is no file alloc/none.img in /nomad/alloc/A/web, /nomad/alloc/A, /images',
  );
  assert.equal(await message(at('images/none')), 'there is no file /images/none');
  assert.match(await message('/etc/none'), /^\/etc\/none is not inside the allowed directories/);
});
