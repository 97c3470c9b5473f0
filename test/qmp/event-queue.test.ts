import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QmpError } from '../../src/qmp/error.ts';
import { EventQueue } from '../../src/qmp/event-queue.ts';
import type { QmpEvent } from '../../src/qmp/message.ts';

const event = (name: string): QmpEvent => ({ event: name, data: {}, atMs: 0 });
const limits = { events: 3, bytes: 100 };

async function names(queue: EventQueue): Promise<string[]> {
  const seen: string[] = [];
  for await (const { event: name } of queue) seen.push(name);
  return seen;
}

test('event queue: gives what it holds in order, then ends', async () => {
  const queue = new EventQueue(() => {});
  for (const name of ['A', 'B', 'C']) queue.push(event(name), 1);
  queue.end();
  queue.push(event('late'), 1);
  assert.deepEqual(await names(queue), ['A', 'B', 'C']);
});

test('event queue: wakes every waiting reader in order; all of them at the end', async () => {
  const queue = new EventQueue(() => {});
  const readers = [queue.next(), queue.next(), queue.next()];
  queue.push(event('A'), 1);
  queue.end();
  assert.deepEqual(
    (await Promise.all(readers)).map(({ done, value }) => (done ? 'end' : value?.event)),
    ['A', 'end', 'end'],
  );
});

test('event queue: an error comes after what is held, once', async () => {
  const queue = new EventQueue(() => {});
  queue.push(event('A'), 1);
  queue.end(new QmpError('closed', 'broke'));
  queue.end(new QmpError('closed', 'a second end changes nothing'));
  assert.equal((await queue.next()).value?.event, 'A');
  await assert.rejects(queue.next(), /^QmpError: broke$/);
  assert.equal((await queue.next()).done, true);
});

test('event queue: a listener that falls behind is cut off with an error, and reported once', async () => {
  let ended = 0;
  const queue = new EventQueue(() => {
    ended += 1;
  }, limits);
  for (const name of ['A', 'B', 'C', 'SHUTDOWN', 'E']) queue.push(event(name), 1);
  const seen: string[] = [];
  await assert.rejects(
    async () => {
      for await (const { event: name } of queue) seen.push(name);
    },
    { code: 'protocol', message: /cut off/ },
  );
  assert.deepEqual(seen, ['A', 'B', 'C', 'SHUTDOWN']);
  assert.equal(ended, 1);
});

test('event queue: the limit is one of bytes too', async () => {
  const queue = new EventQueue(() => {}, limits);
  queue.push(event('A'), 60);
  queue.push(event('B'), 60);
  await queue.next();
  await queue.next();
  await assert.rejects(queue.next(), { code: 'protocol' });
});

test('event queue: reading makes room again', async () => {
  const queue = new EventQueue(() => {}, limits);
  for (let round = 0; round < 50; round += 1) {
    queue.push(event(`E${round}`), 40);
    assert.equal((await queue.next()).value?.event, `E${round}`);
  }
  queue.end();
  assert.equal((await queue.next()).done, true);
});

test('event queue: leaving the loop ends it, drops what is held and wakes a waiting reader', async () => {
  let ended = 0;
  const queue = new EventQueue(() => {
    ended += 1;
  });
  for (const name of ['A', 'B', 'C']) queue.push(event(name), 1);
  for await (const { event: name } of queue) if (name === 'A') break;
  assert.equal(ended, 1);
  assert.equal((await queue.next()).done, true);

  const other = new EventQueue(() => {});
  const reader = other.next();
  await other[Symbol.asyncDispose]();
  assert.equal((await reader).done, true);
});
