import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { messageOf } from '../../src/plugin/error/message.ts';
import { PluginError } from '../../src/plugin/error/plugin-error.ts';
import { toStatus } from '../../src/plugin/error/status.ts';
import { StatusSchema } from '../../src/plugin/gen/rpc_status_pb.ts';
import { RecoverableErrorSchema } from '../../src/plugin/gen/structs_pb.ts';
import { VmError } from '../../src/vm/error.ts';

/** What Nomad's client takes from a status: whether the task may be tried again. */
function isRecoverable(error: unknown): boolean {
  const { code, details } = toStatus(error);
  if (details === undefined) return false;
  const status = fromBinary(StatusSchema, details);
  assert.equal(status.code, code);
  const [first] = status.details;
  return fromBinary(RecoverableErrorSchema, first?.value ?? new Uint8Array()).recoverable;
}

const retry = { recoverable: true };

test('P-24: exactly what is marked as worth another try is recoverable', () => {
  assert.equal(isRecoverable(new VmError('host', 'no room', retry)), true);
  assert.equal(isRecoverable(new VmError('host', 'no room')), false);
  assert.equal(isRecoverable(new PluginError('state', 'took too long', retry)), true);
  assert.equal(isRecoverable(new PluginError('host', 'not on this host')), false);
  assert.equal(isRecoverable(new Error('a bug')), false);
  // What failed first decides, also when its clean-up failed as well.
  const first = new VmError('host', 'no room', retry);
  assert.equal(isRecoverable(new SuppressedError(new Error('second'), first)), true);
});

const said: Readonly<Record<string, [error: unknown, words: string]>> = {
  'the causes, nearest first': [
    new Error('a', { cause: new Error('b', { cause: 'c' }) }),
    'a: b: c',
  ],
  'nothing twice': [
    new VmError('job', 'there is no file /x', { cause: new Error('there is no file /x') }),
    'there is no file /x',
  ],
  'the longer of two of the same content': [
    new Error('no space', { cause: new Error('no space left on device') }),
    'no space left on device',
  ],
  'the name of an error without words': [new TypeError('', { cause: 'x' }), 'TypeError: x'],
  'one line, whatever QEMU printed': [
    new VmError('host', 'QEMU did not start the VM; QEMU said: a: b\n  c\r\n\nd\n'),
    'QEMU did not start the VM; QEMU said: a: b; c; d',
  ],
  'what went wrong before what went wrong in the cleaning up': [
    new SuppressedError(new Error('log', { cause: 'full' }), new Error('copy', { cause: 'full' })),
    'copy: full; then log: full',
  ],
  'the same inside of another': [
    new Error('start', { cause: new SuppressedError('b', 'a') }),
    'start: a; then b',
  ],
  'each of several once': [
    new VmError('job', 'no image; bad user data', {
      cause: new AggregateError([new Error('no image'), new Error('bad user data')]),
    }),
    'no image; bad user data',
  ],
  'several without a word of their own': [
    new Error('start', { cause: new AggregateError([new Error('a'), 'b']) }),
    'start: a; b',
  ],
  'something, at least': [undefined, 'unknown error'],
};
for (const [name, [error, words]] of Object.entries(said)) {
  test(`P-24 V-140: an error has ${name}`, () => {
    assert.equal(messageOf(error), words);
    assert.equal(toStatus(error).message, words);
  });
}
