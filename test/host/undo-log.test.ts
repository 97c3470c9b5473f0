import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { HostError, kill, type Logger, readUndoLog, spawnDetached, UndoLog } from '#host';
import { openedOf } from '../support/opens.ts';
import { tmpDir } from '../support/tmp.ts';

interface Step {
  readonly kind: 'file';
  readonly path: string;
}

const waiting = (ms = 10_000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });
const step = (path: string): Step => ({ kind: 'file', path });

function decode(json: unknown): Step {
  if (typeof json !== 'object' || json === null || !('path' in json)) throw new Error('no step');
  return step(String(json.path));
}

function recorder(): Logger & { readonly lines: string[] } {
  const lines: string[] = [];
  const add = (message: string): void => {
    lines.push(message);
  };
  return { lines, trace: add, debug: add, info: add, warn: add, error: add };
}

interface Bench {
  readonly dir: string;
  readonly path: string;
  /** Paths of the steps undone so far. */
  readonly undone: string[];
  /** Steps whose undoing fails. */
  readonly broken: Set<string>;
  readonly log: ReturnType<typeof recorder>;
  open(): Promise<UndoLog<Step>>;
  make(): ReturnType<typeof UndoLog.make<Step>>;
}

function bench(t: TestContext): Bench {
  const dir = tmpDir(t);
  const path = join(dir, 'undo');
  const [undone, broken, log] = [[] as string[], new Set<string>(), recorder()];
  const undo = async (it: Step): Promise<void> => {
    if (broken.has(it.path)) throw new Error(`cannot undo ${it.path}`);
    undone.push(it.path);
  };
  const options = { decode, log };
  return {
    ...{ dir, path, undone, broken, log },
    open: () => UndoLog.open(path, undo, options),
    make: () => UndoLog.make(path, undo, options),
  };
}

test('the step is on disk before its action runs', async (t) => {
  const { path, open } = bench(t);
  const log = await open();
  const answer = await log.perform(step('a'), () => readFileSync(path, 'utf8'));
  assert.equal(answer, '{"do":{"kind":"file","path":"a"}}\n');
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('a log that is made is opened once for many steps, each of which is on disk before its action runs', async (t) => {
  const { path, make } = bench(t);
  const { log, held } = await make();
  log.keep();
  const seen: number[] = [];
  const opened = await openedOf([path], async () => {
    for (const name of ['a', 'b', 'c']) {
      await log.perform(step(name), () => seen.push(statSync(path).size));
    }
  });
  held[Symbol.dispose]();
  assert.deepEqual(opened, []);
  assert.deepEqual(seen, [34, 68, 102]);
  await log.note(step('d'));
  assert.equal((await readUndoLog(path, decode)).length, 4);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await assert.rejects(make(), /^HostError: making the undo log \S+: EEXIST/);
});

test('the end of the scope undoes, newest first, and leaves an empty log', async (t) => {
  const { path, undone, open } = bench(t);
  {
    await using log = await open();
    for (const name of ['a', 'b', 'c']) await log.perform(step(name), () => undefined);
    await log.note(step('d'));
    assert.deepEqual(
      log.steps.map((it) => it.path),
      ['a', 'b', 'c', 'd'],
    );
  }
  assert.deepEqual(undone, ['d', 'c', 'b', 'a']);
  assert.equal(statSync(path).size, 0);
});

test('an action that fails is undone as well, and its error goes up', async (t) => {
  const { undone, open } = bench(t);
  const failure = new Error('no');
  const scope = async (): Promise<void> => {
    await using log = await open();
    await log.perform(step('a'), () => undefined);
    await log.perform(step('b'), () => Promise.reject(failure));
  };
  await assert.rejects(scope(), (error) => error === failure);
  assert.deepEqual(undone, ['b', 'a']);
});

test('a kept log undoes nothing until it is asked to', async (t) => {
  const { undone, open } = bench(t);
  const keep = async (): Promise<UndoLog<Step>> => {
    await using log = await open();
    await log.perform(step('a'), () => undefined);
    return log.keep();
  };
  const log = await keep();
  await log.note(step('b'));
  assert.deepEqual(undone, []);
  assert.deepEqual(await log.rollback(waiting()), { failed: [] });
  assert.deepEqual(undone, ['b', 'a']);
  assert.deepEqual(log.steps, []);
});

test('what fails stays in the log, is reported, and stops no other step', async (t) => {
  const { undone, broken, log: lines, open } = bench(t);
  const log = await open();
  for (const name of ['a', 'b', 'c']) await log.note(step(name));
  broken.add('b');
  const { failed } = await log.rollback(waiting());
  assert.deepEqual(
    failed.map((it) => it.step.path),
    ['b'],
  );
  assert.match(String(failed[0]?.error), /cannot undo b/);
  assert.deepEqual(undone, ['c', 'a']);
  assert.equal(lines.lines.length, 1);
  const again = await open();
  assert.deepEqual(again.steps, [step('b')]);
  await again.note(step('d'));
  broken.clear();
  await again.rollback(waiting());
  assert.deepEqual(undone, ['c', 'a', 'd', 'b']);
  assert.deepEqual((await open()).steps, []);
});

test('after its patience is over a rollback leaves the rest for another time', async (t) => {
  const { undone, open } = bench(t);
  const log = await open();
  for (const name of ['a', 'b']) await log.note(step(name));
  const { failed } = await log.rollback({ signal: AbortSignal.abort(new Error('enough')) });
  assert.deepEqual(
    failed.map((it) => it.step.path),
    ['b', 'a'],
  );
  assert.deepEqual(undone, []);
  await log.rollback(waiting());
  assert.deepEqual(undone, ['b', 'a']);
});

test('a disk that takes no more writes stops no undoing, and the next process undoes again', async (t) => {
  const { path, undone, open } = bench(t);
  const log = await open();
  for (const name of ['a', 'b', 'c']) await log.note(step(name));
  const written = readFileSync(path);
  rmSync(path);
  symlinkSync('/dev/full', path); // ENOSPC for every write
  assert.deepEqual(await log.rollback(waiting()), { failed: [] });
  assert.deepEqual(undone, ['c', 'b', 'a']);
  assert.deepEqual(log.steps, []);
  rmSync(path);
  writeFileSync(path, written);
  await (await open()).rollback(waiting());
  assert.deepEqual(undone, ['c', 'b', 'a', 'c', 'b', 'a']);
  assert.deepEqual((await open()).steps, []);
});

test('a log that another process left is read without being made or changed', async (t) => {
  const { dir, path, open } = bench(t);
  const reopen = () => UndoLog.reopen(path, async () => {}, { decode, log: recorder() });
  assert.deepEqual((await reopen()).steps, []);
  assert.deepEqual(readdirSync(dir), []);
  await (await open()).note(step('a'));
  appendFileSync(path, 'torn');
  const log = await reopen();
  assert.deepEqual(log.steps, [step('a')]);
  assert.match(readFileSync(path, 'utf8'), /torn$/);
  await log.note(step('b'));
  assert.deepEqual((await reopen()).steps, [step('a'), step('b')]);
});

test('two rollbacks at once undo each step once', async (t) => {
  const { undone, open } = bench(t);
  const log = await open();
  for (const name of ['a', 'b', 'c']) await log.note(step(name));
  await Promise.all([log.rollback(waiting()), log.rollback(waiting())]);
  assert.deepEqual(undone, ['c', 'b', 'a']);
});

test('notes made at once are all there, each on its line', async (t) => {
  const { open } = bench(t);
  const log = await open();
  const names = Array.from({ length: 50 }, (_, index) => `n${index}`);
  await Promise.all(names.map((name) => log.note(step(name))));
  assert.deepEqual(
    (await open()).steps.map((it) => it.path),
    names,
  );
});

test('undoing may take the directory with the log in it', async (t) => {
  const dir = join(tmpDir(t), 'vm');
  mkdirSync(dir);
  const undo = async (): Promise<void> => rmSync(dir, { recursive: true, force: true });
  const log = await UndoLog.open(join(dir, 'undo'), undo, { decode, log: recorder() });
  await log.note(step('first'));
  await log.note(step('second'));
  assert.deepEqual(await log.rollback(waiting()), { failed: [] });
  assert.throws(() => statSync(dir), { code: 'ENOENT' });
});

test('a log cut at any byte is readable, and what follows is not glued to the torn line', async (t) => {
  const { path, open } = bench(t);
  const log = await open();
  for (const name of ['a', 'bä', 'c']) await log.note(step(name));
  const whole = readFileSync(path);
  const ends = [...whole.entries()].flatMap(([at, byte]) => (byte === 10 ? [at + 1] : []));
  for (let length = 0; length <= whole.length; length += 1) {
    writeFileSync(path, whole.subarray(0, length));
    const lines = ends.filter((end) => end <= length).length;
    const cut = await open();
    assert.equal(cut.steps.length, lines, `cut at ${length}`);
    await cut.note(step('after'));
    assert.deepEqual((await open()).steps.at(-1), step('after'));
    assert.equal((await open()).steps.length, lines + 1);
  }
});

test('a last line that a crash of the host filled with zeros counts as torn', async (t) => {
  const { path, open } = bench(t);
  await (await open()).note(step('a'));
  appendFileSync(path, Buffer.from('\0\0\0\0\0\0\n'));
  assert.deepEqual((await open()).steps, [step('a')]);
});

const badLogs: Record<string, string> = {
  'a broken line before others': '{"do":\n{"do":{"path":"a"}}\n',
  'a line that is neither a step nor done': '{"path":"a"}\n{"do":{"path":"b"}}\n',
  'a step nobody knows': '{"do":{"kind":"later"}}\n',
};
for (const [name, text] of Object.entries(badLogs)) {
  test(`${name} is an error that names the log`, async (t) => {
    const { path, open } = bench(t);
    writeFileSync(path, text);
    const named = (error: unknown): boolean =>
      error instanceof HostError && error.message.includes(path);
    await assert.rejects(open(), named);
    await assert.rejects(readUndoLog(path, decode), named);
    assert.equal(readFileSync(path, 'utf8'), text, 'and the log stays as it was');
  });
}

test('looking at a log changes nothing, and a missing one is empty', async (t) => {
  const { dir, path, open } = bench(t);
  assert.deepEqual(await readUndoLog(path, decode), []);
  await (await open()).note(step('a'));
  truncateSync(path, statSync(path).size - 1);
  appendFileSync(path, 'x');
  const before = readFileSync(path);
  await readUndoLog(path, decode);
  assert.deepEqual(readFileSync(path), before);
  await assert.rejects(readUndoLog(dir, decode), { name: 'HostError', errno: 'EISDIR' });
});

test('no step is taken when it cannot be written down', async (t) => {
  const { dir, open } = bench(t);
  const log = await open();
  rmSync(dir, { recursive: true });
  let acted = false;
  const act = (): void => {
    acted = true;
  };
  await assert.rejects(log.perform(step('a'), act), { name: 'HostError', errno: 'ENOENT' });
  assert.ok(!acted);
  assert.deepEqual(log.steps, []);
});

test('whatever is done and undone, the file has what is left', async (t) => {
  const dir = tmpDir(t);
  const actions = fc.array(
    fc.oneof(
      fc.record({ act: fc.constant('note' as const), name: fc.string({ maxLength: 8 }) }),
      fc.record({ act: fc.constant('rollback' as const), broken: fc.string({ maxLength: 1 }) }),
      fc.record({ act: fc.constant('reopen' as const) }),
    ),
    { maxLength: 12 },
  );
  let run = 0;
  await fc.assert(
    fc.asyncProperty(actions, async (list) => {
      run += 1;
      const path = join(dir, `undo-${run}`);
      let broken = '';
      const undo = async ({ path: name }: Step): Promise<void> => {
        if (name.startsWith(broken)) throw new Error('broken');
      };
      const open = () => UndoLog.open(path, undo, { decode, log: recorder() });
      let [log, model]: [UndoLog<Step>, string[]] = [await open(), []];
      for (const it of list) {
        if (it.act === 'reopen') log = await open();
        else if (it.act === 'note') {
          await log.note(step(it.name));
          model.push(it.name);
        } else {
          broken = it.broken;
          model = model.filter((name) => name.startsWith(broken));
          await log.rollback(waiting());
        }
        assert.deepEqual(
          log.steps.map((left) => left.path),
          model,
        );
      }
      assert.deepEqual(
        (await open()).steps.map((left) => left.path),
        model,
      );
    }),
    { numRuns: 60 },
  );
});

test('V-99: killed at any moment, a process leaves a log from which another one cleans up', async (t) => {
  const dir = tmpDir(t);
  const script = `
    import { writeFileSync, mkdirSync } from 'node:fs';
    import { UndoLog } from ${JSON.stringify(import.meta.resolve('#host'))};
    const [path, made] = ${JSON.stringify([join(dir, 'undo'), join(dir, 'made')])};
    const log = await UndoLog.open(path, async () => {}, { decode: (it) => it, log: console });
    mkdirSync(made, { recursive: true });
    for (let n = 0; ; n += 1) {
      const file = made + '/' + n;
      await log.perform({ kind: 'file', path: file }, () => writeFileSync(file, 'x'));
    }
  `;
  const made = (): string[] =>
    existsSync(join(dir, 'made')) ? readdirSync(join(dir, 'made')) : [];
  for (let round = 0; round < 3; round += 1) {
    const child = await spawnDetached({
      program: process.execPath,
      args: ['--input-type=module', '-e', script],
      stdio: ['ignore', 'ignore', 'ignore'],
    });
    t.after(() => kill(child.identity, waiting()));
    const deadline = Date.now() + 20_000;
    while (made().length < 20 + round * 7 && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await kill(child.identity, waiting());
    assert.ok(made().length >= 20, 'it worked until it was killed');
    const undo = async ({ path }: Step): Promise<void> => rmSync(path, { force: true });
    const log = await UndoLog.open(join(dir, 'undo'), undo, { decode, log: recorder() });
    // Every file made is in the log; the last step may be there without its file.
    const known = new Set(log.steps.map((it) => it.path));
    for (const name of made()) assert.ok(known.has(join(dir, 'made', name)), name);
    assert.ok(known.size - made().length <= 1);
    assert.deepEqual(await log.rollback(waiting()), { failed: [] });
    assert.deepEqual(made(), []);
  }
});
