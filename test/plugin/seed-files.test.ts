import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { smallest, task } from './requests.ts';

const context = {
  driverName: 'virt',
  hostArch: 'x86_64',
  limits: { minMemoryMiB: 500, minDiskMiB: 2000, maxDiskMiB: 100_000, maxConnections: 8192 },
  pools: { pools: [], default: undefined },
} as const;

function planned(config: Readonly<Record<string, unknown>>) {
  const request = task({ config: { ...smallest, ...config } });
  const { spec, problems } = planTask(create(TaskConfigSchema, request), context);
  return { guest: spec.guest, problems: problems.map(({ path, text }) => `${path}: ${text}`) };
}

test('V-57: meta-data as a map, or as blocks', () => {
  const metaData = { role: 'web', 'instance-id': 'a-1' };
  for (const meta_data of [metaData, [metaData], [{ role: 'web' }, { 'instance-id': 'a-1' }]]) {
    const { guest, problems } = planned({ meta_data });
    assert.deepEqual(problems, []);
    assert.deepEqual(guest.metaData, metaData);
  }
  assert.equal(planned({}).guest.metaData, undefined);
});

test('V-57: keys of meta-data that are the driver’s, or no keys', () => {
  const meta_data = { 'local-hostname': 'x', 'public-keys': 'y', 'a b': 'z', 'instance-id': 'a b' };
  assert.deepEqual(planned({ meta_data }).problems, [
    'meta_data.local-hostname: is set by another key: use hostname',
    'meta_data.public-keys: is set by another key: use default_user_authorized_ssh_key',
    'meta_data: "a b" must be letters, digits, _ and -, at most 64',
    'meta_data.instance-id: must be letters, digits, ., _ and -, at most 100',
  ]);
  assert.deepEqual(planned({ meta_data: 'role' }).problems, [
    'meta_data: must be a block of names and values, not the text "role"',
  ]);
});

test('V-63: a network configuration as a text or as a file', () => {
  const of = (network_config: string) => planned({ network_config }).guest.networkConfig;
  assert.deepEqual(of('version: 2\n'), { kind: 'inline', text: 'version: 2\n' });
  assert.deepEqual(of('{"version": 2}'), { kind: 'inline', text: '{"version": 2}' });
  assert.deepEqual(of('local/net.yml'), { kind: 'file', path: 'local/net.yml' });
  assert.equal(of(''), undefined);
});
