import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StoryTeller } from '../../src/vm/live/task-events.ts';

test('the same sentence is told once in 10 s, whatever happens to the clock of the host', (t) => {
  const teller = new StoryTeller();
  const told: string[] = [];
  teller.listen((_name, { message }) => told.push(message));
  const tell = teller.about('vm-0');
  const clock = { hourMs: Date.now(), elapsedMs: 1000 };
  t.mock.method(Date, 'now', () => clock.hourMs);
  t.mock.method(performance, 'now', () => clock.elapsedMs);
  const rebooted = { message: 'Guest rebooted', annotations: {} };
  tell(rebooted);
  tell(rebooted);
  assert.equal(told.length, 1);
  clock.hourMs += 3_600_000;
  tell(rebooted);
  assert.equal(told.length, 1, 'set forward');
  clock.hourMs -= 2 * 3_600_000;
  clock.elapsedMs += 10_001;
  tell(rebooted);
  assert.equal(told.length, 2, 'set back by an hour, 10 s later');
});
