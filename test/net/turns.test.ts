import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Turns } from '../../src/net/model/turns.ts';
import { waiting } from '../support/networks.ts';

test('V-118: a namespace that takes its time keeps none from its turn, and comes last from then on', async () => {
  const turns = new Turns({ eachMs: 20 });
  const order: string[] = [];
  let isSlow = true;
  const each = ['slow', 'good', undefined].map((netns) => ({
    netns,
    work: async ({ signal }: { readonly signal: AbortSignal }): Promise<void> => {
      order.push(netns ?? 'own');
      if (netns !== 'slow' || !isSlow) return;
      const { promise, reject } = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => reject(new Error('no time is left')));
      await promise;
    },
  }));
  const run = () => turns.run(each, waiting());
  await assert.rejects(run(), /no time is left/);
  await assert.rejects(run(), /no time is left/);
  isSlow = false;
  await run();
  await run();
  const first = ['slow', 'good', 'own'];
  const later = ['good', 'own', 'slow'];
  assert.deepEqual(order, [...first, ...later, ...later, ...first]);
});

test('V-118: work that fails keeps its place, and what is cut short by the whole is not slow', async () => {
  const turns = new Turns();
  const order: string[] = [];
  const closing = new AbortController();
  const each = ['a', 'b'].map((netns) => ({
    netns,
    work: async (): Promise<void> => {
      order.push(netns);
      if (order.length === 3) closing.abort();
      throw new Error(netns);
    },
  }));
  await assert.rejects(turns.run(each, waiting()), /^Error: a$/);
  await assert.rejects(turns.run(each, closing), /^Error: a$/);
  await assert.rejects(turns.run(each, waiting()), /^Error: a$/);
  assert.deepEqual(order, ['a', 'b', 'a', 'a', 'b']);
});
