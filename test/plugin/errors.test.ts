import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { BasePlugin } from '../../src/plugin/gen/base_pb.ts';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import { failures } from '../support/failures.ts';
import { failureOf } from '../support/plugin-client.ts';
import { freshId, shared, smallest, type TaskInit, task } from './requests.ts';

const UNKNOWN = 2;
const INVALID_ARGUMENT = 3;
const FAILED_PRECONDITION = 9;
const ABORTED = 10;

/** What the backend fails with → the status that Nomad gets. */
const statuses: Readonly<Record<string, [code: number, message: RegExp]>> = {
  '/job': [INVALID_ARGUMENT, /^image: there is no file \/job$/],
  '/job-then-cleanup': [INVALID_ARGUMENT, /^image: a pipe; then unmount$/],
  '/vm': [FAILED_PRECONDITION, /^there is no qemu-system-x86_64 on this host$/],
  '/host': [FAILED_PRECONDITION, /^mount tmpfs on \/run\/x: EPERM$/],
  '/image': [FAILED_PRECONDITION, /^read \/image: EIO$/],
  '/net': [INVALID_ARGUMENT, /^bridge: no bridge br9$/],
  '/netlink': [FAILED_PRECONDITION, /^RTM_NEWLINK virbr0: EPERM$/],
  '/qmp': [FAILED_PRECONDITION, /^there is no monitor at \/run\/x\/qmp\.sock$/],
  '/errno': [FAILED_PRECONDITION, /^ENOSPC: /],
  '/timeout': [FAILED_PRECONDITION, /^the operation took too long$/],
  '/abort': [ABORTED, /^the operation was aborted$/],
  '/bug': [UNKNOWN, /^x is not a function$/],
  '/bug-in-vm': [UNKNOWN, /^image: x is not a function$/],
  '/bug-of-node': [UNKNOWN, /^must be a string$/],
};

test('every failure of the table has its status', () =>
  assert.deepEqual(Object.keys(failures).toSorted(), Object.keys(statuses).toSorted()));

for (const [image, [code, message]] of Object.entries(statuses)) {
  test(`P-12 P-24: the status of a start that fails with ${image.slice(1)}`, async () => {
    const { client, dataDir } = await shared();
    const failing = task({ id: freshId(), config: { ...smallest, image } });
    const failure = await failureOf(client.call(Driver.method.startTask, { task: failing }));
    assert.equal(failure.code, code);
    assert.match(failure.details, message);
    assert.deepEqual(readdirSync(dataDir), ['emulator']);
  });
}

/** Mistakes in a job that are found without a look at the host → the key that the message names. */
const mistakes: Readonly<Record<string, [change: TaskInit & { config?: object }, key: RegExp]>> = {
  'no configuration': [{ msgpackDriverConfig: encode(7) }, /must be a block/],
  'bytes that are none': [
    { msgpackDriverConfig: Buffer.from('c1', 'hex') },
    /decode driver config/,
  ],
  'a value of the wrong type': [{ config: { ...smallest, vcpus: 'x' } }, /vcpus: must be a number/],
  'one of several texts': [{ config: { ...smallest, firmware: 'x' } }, /firmware: must be one of/],
  'a port that the group has not': [
    {
      config: { ...smallest, network_interface: [{ bridge: { name: 'br0', ports: ['ssh'] } }] },
    },
    /network_interface\[0\]\.bridge\.ports\[0\]: no port is labelled "ssh"/,
  ],
  'a user': [{ user: 'root' }, /user: "root"/],
};

for (const [name, [change, key]] of Object.entries(mistakes)) {
  test(`P-12 V-19: a job with a mistake is INVALID_ARGUMENT and names the key: ${name}`, async () => {
    const { client } = await shared();
    const { config, ...rest } = change;
    const request = {
      ...task({ id: freshId(), ...(config && { config: { ...config } }) }),
      ...rest,
    };
    const failure = await failureOf(client.call(Driver.method.startTask, { task: request }));
    assert.equal(failure.code, INVALID_ARGUMENT);
    assert.match(failure.details, key);
  });
}

test('P-12 P-16: a mistake in the plugin block is INVALID_ARGUMENT and names the key', async () => {
  const { client } = await shared();
  const msgpackConfig = encode({ uid_range: { min: 9, max: 8 } });
  const failure = await failureOf(client.call(BasePlugin.method.setConfig, { msgpackConfig }));
  assert.equal(failure.code, INVALID_ARGUMENT);
  assert.equal(
    failure.details,
    'virt: invalid plugin configuration: uid_range.max: must not be less than uid_range.min',
  );
});
