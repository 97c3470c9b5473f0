import assert from 'node:assert/strict';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ShareSpec } from '#spec';
import { prepareShare } from '../../src/vm/devices/shares/shares.ts';
import type { VmUndo } from '../../src/vm/store/undo.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { siteIn } from '../support/site.ts';
import { tmpDir } from '../support/tmp.ts';

const soon = () => ({ signal: AbortSignal.timeout(patient(10_000)) });
const tools = { kind: '9p', virtiofsd: undefined, dialect: 'rust', reason: '' } as const;

/** A VM that is being created, as far as its shares are; undefined where there is no root. */
async function siteOf(t: TestContext) {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root: mounts')) return undefined;
  const root = tmpDir(t);
  const lines: string[] = [];
  const site = await siteIn(root, lines);
  const { allocDir, paths } = site;
  const local = join(allocDir, 'task/local');
  mkdirSync(local, { recursive: true });
  mkdirSync(paths.shares);
  /** `before` is called when the directory was looked at, and is to be mounted next. */
  const share = (
    spec: Pick<ShareSpec, 'tag' | 'source' | 'volume'>,
    { readOnly = true, before = () => {} } = {},
  ) => {
    const undo = new Proxy(site.undo, {
      get: (log, name) => (name === 'perform' ? perform : Reflect.get(log, name)),
    });
    const perform = (step: VmUndo, mount: () => void): Promise<void> =>
      site.undo.perform(step, () => {
        before();
        mount();
      });
    const whole = { target: `/${spec.tag}`, readOnly, ...spec };
    return prepareShare({ spec: whole, index: 0 }, tools, { ...site, undo }, soon());
  };
  return {
    ...{ root, allocDir, local, lines, share },
    at: (tag: string) => join(paths.shares, tag),
    async [Symbol.asyncDispose]() {
      await site[Symbol.asyncDispose]();
      assert.deepEqual(readdirSync(paths.shares), []);
    },
  };
}

test('V-68: what is shared lies beneath the allocation as it was looked at: a link on the way shows nothing', async (t) => {
  const opened = await siteOf(t);
  if (opened === undefined) return;
  await using site = opened;
  const { root, allocDir, local, lines } = site;
  const foreign = join(root, 'alloc-1/task/local');
  mkdirSync(foreign, { recursive: true });
  writeFileSync(join(foreign, 'nomad_token'), 'of a neighbour');
  mkdirSync(join(allocDir, 'web'));
  symlinkSync(foreign, join(allocDir, 'web/local'));
  symlinkSync(join(root, 'alloc-1/task'), join(allocDir, 'linked'));
  symlinkSync('../alloc-1/task', join(allocDir, 'relative'));
  assert.ok((await site.share({ tag: 'own', source: local })) !== undefined);
  assert.deepEqual(readdirSync(site.at('own')), readdirSync(local));
  const sources = {
    last: join(allocDir, 'web/local'),
    way: join(allocDir, 'linked/local'),
    relative: join(allocDir, 'relative/local'),
    above: join(allocDir, '../alloc-1/task/local'),
    elsewhere: foreign,
  };
  for (const [tag, source] of Object.entries(sources)) {
    assert.equal(await site.share({ tag, source }), undefined, tag);
    assert.ok(!existsSync(site.at(tag)), tag);
  }
  const refusals = lines.filter((line) => line.includes('directory not shared'));
  assert.equal(refusals.length, Object.keys(sources).length);
  assert.deepEqual(readdirSync(foreign), ['nomad_token']);
});

test('V-69 V-70: a volume that another task has given to root since its check is not shared for writing', async (t) => {
  const opened = await siteOf(t);
  if (opened === undefined) return;
  await using site = opened;
  const source = join(site.root, 'volume');
  mkdirSync(source);
  chownSync(source, 200_000, 200_000);
  chownSync(source, 0, 0);
  await assert.rejects(site.share({ tag: 'data', source, volume: true }, { readOnly: false }), {
    message: /^volume_mount "\/data": .* belongs to root, .* chown 200000:200000 /,
  });
  assert.ok((await site.share({ tag: 'read', source, volume: true })) !== undefined);
});

test('V-69: of a volume that is replaced, what was looked at is mounted', async (t) => {
  const opened = await siteOf(t);
  if (opened === undefined) return;
  await using site = opened;
  const [source, other] = [join(site.root, 'volume'), join(site.root, 'other')];
  for (const dir of [source, other]) mkdirSync(join(dir, 'in'), { recursive: true });
  chownSync(source, 200_000, 200_000);
  writeFileSync(join(other, 'of-root'), '');
  const before = (): void => {
    renameSync(source, join(site.root, 'gone'));
    symlinkSync(other, source);
  };
  const shared = await site.share({ tag: 'data', source, volume: true }, { before });
  assert.ok(shared !== undefined);
  assert.deepEqual(readdirSync(site.at('data')), ['in']);
});
