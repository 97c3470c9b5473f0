import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { decodePluginConfig, type PluginConfig } from '../../src/plugin/agent/config.ts';
import { messageOf } from '../../src/plugin/error/message.ts';
import { PluginError } from '../../src/plugin/error/plugin-error.ts';
import { createLog } from '../../src/plugin/serve/log.ts';
import { BackendHolder, type CreateBackend, createQemu } from '../../src/plugin/tasks/backend.ts';
import { ProcessVirtualizer } from '../support/process-virtualizer.ts';
import { dataDirOf } from './requests.ts';

function holderOf(create: CreateBackend, change: Partial<PluginConfig>): BackendHolder {
  const log = createLog({ module: 'test', level: 'error', file: undefined });
  const holder = new BackendHolder({
    driverName: 'virt',
    create,
    log,
    onEvent: () => {},
    onReady: () => {},
  });
  holder.configure({ ...decodePluginConfig(new Uint8Array(), 'virt'), ...change });
  return holder;
}

async function failureOf(holder: BackendHolder): Promise<PluginError> {
  const error = await holder.get().catch((it: unknown) => it);
  assert.ok(error instanceof PluginError);
  assert.equal(error.code, 'host');
  return error;
}

const processes: CreateBackend = async ({ dataDir }) => new ProcessVirtualizer(dataDir);

test('P-24 V-6: what the host keeps from starting may be tried again, and works once it is put right', async (t: TestContext) => {
  const dir = dataDirOf(t);
  const blocker = join(dir, 'blocker');
  writeFileSync(blocker, '');
  const error = await failureOf(holderOf(processes, { dataDir: join(blocker, 'data') }));
  assert.equal(error.recoverable, true);
  assert.match(messageOf(error), /could not be made ready on this host: ENOTDIR/);
  await holderOf(processes, { dataDir: join(dir, 'data') }).get();
});

test('P-24: what is wrong with the configuration or the program stays so and is not tried again', async () => {
  const managedNetworks = [{ bridge: 'br:0', address: '10.0.0.1', prefix: 24 }];
  const misconfigured = await failureOf(holderOf(createQemu, { managedNetworks }));
  assert.equal(misconfigured.recoverable, false);
  assert.match(messageOf(misconfigured), /"br:0" is not a name/);
  const incomplete: CreateBackend = () => import(join(import.meta.dirname, 'not-installed.ts'));
  assert.equal((await failureOf(holderOf(incomplete, {}))).recoverable, false);
});
