import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyedQueue } from '#host';

/** Works that note their begin and end, and end when they are let go. */
class Works {
  readonly log: string[] = [];
  readonly #gates = new Map<string, PromiseWithResolvers<void>>();

  start(name: string): () => Promise<string> {
    const gate = Promise.withResolvers<void>();
    this.#gates.set(name, gate);
    return async () => {
      this.log.push(`${name} begins`);
      await gate.promise;
      this.log.push(`${name} ends`);
      return name;
    };
  }

  finish(name: string): void {
    this.#gates.get(name)?.resolve();
  }

  fail(name: string): void {
    this.#gates.get(name)?.reject(new Error(name));
  }
}

test('queue: works of one key run one at a time in the order of the calls, each with its own result', async () => {
  const queue = new KeyedQueue();
  const works = new Works();
  const results = ['one', 'two', 'three'].map((name) => queue.run('vm', works.start(name)));
  for (const name of ['three', 'two', 'one']) works.finish(name);
  assert.deepEqual(await Promise.all(results), ['one', 'two', 'three']);
  assert.deepEqual(works.log, [
    ...['one begins', 'one ends'],
    ...['two begins', 'two ends'],
    ...['three begins', 'three ends'],
  ]);
});

test('queue: different keys do not wait for each other', async () => {
  const queue = new KeyedQueue();
  const works = new Works();
  const slow = queue.run('a', works.start('slow'));
  works.start('quick');
  const quick = queue.run('b', works.start('quick'));
  works.finish('quick');
  assert.equal(await quick, 'quick');
  assert.deepEqual(works.log, ['slow begins', 'quick begins', 'quick ends']);
  works.finish('slow');
  assert.equal(await slow, 'slow');
});

test('queue: a failure reaches its own caller, and the next work runs', async () => {
  const queue = new KeyedQueue();
  const works = new Works();
  const failing = queue.run('vm', works.start('bad'));
  const next = queue.run('vm', works.start('good'));
  works.fail('bad');
  works.finish('good');
  await assert.rejects(failing, /^Error: bad$/);
  assert.equal(await next, 'good');
});

test('queue: a work that throws at once is a failure as well', async () => {
  const queue = new KeyedQueue();
  const broken = () => {
    throw new RangeError('at once');
  };
  await assert.rejects(queue.run('vm', broken), RangeError);
  assert.equal(await queue.run('vm', async () => 5), 5);
});
