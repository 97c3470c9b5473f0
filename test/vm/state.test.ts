import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayFollow } from '../../src/vm/live/state.ts';
import type { DomainState } from '../../src/vm/virtualizer.ts';

const states: readonly DomainState[] = ['starting', 'running', 'paused', 'stopping', 'exited'];

/** Each state of a VM → all that may come next. */
const table: Readonly<Record<DomainState, readonly DomainState[]>> = {
  starting: ['running', 'paused', 'stopping', 'exited'],
  running: ['paused', 'stopping', 'exited'],
  paused: ['running', 'stopping', 'exited'],
  stopping: ['exited'],
  exited: [],
};

for (const from of states) {
  test(`after ${from} comes ${table[from].join(' or ') || 'nothing'}`, () => {
    assert.deepEqual(
      states.filter((to) => mayFollow(from, to)),
      states.filter((to) => table[from].includes(to)),
    );
  });
}

test('no state follows itself, and none leads back to starting', () => {
  for (const state of states) {
    assert.equal(mayFollow(state, state), false);
    assert.equal(mayFollow(state, 'starting'), false);
  }
});

test('every state reaches the end, and a stop is final', () => {
  for (const state of states.slice(0, -1)) assert.ok(mayFollow(state, 'exited'), state);
  for (const state of states) {
    if (state !== 'exited') assert.equal(mayFollow('stopping', state), false, state);
  }
});
