import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import { failureOf, PluginProcess } from '../support/plugin-client.ts';
import { configure, sectorTask } from '../support/sector-task.ts';
import { canRunVms, VmGround } from '../support/vm.ts';

const INVALID_ARGUMENT = 3;
const FAILED_PRECONDITION = 9;

type Keys = Readonly<Record<string, unknown>>;

/** The real plugin with this plugin block, and what a start of this task config on it fails with. */
async function failureOfStart(
  ground: VmGround,
  { block = {}, config = {} }: { readonly block?: Keys; readonly config?: Keys },
) {
  await using plugin = await PluginProcess.serve({ env: { PATH: process.env.PATH } });
  const client = plugin.client();
  await configure(client, ground, { bridges: ['absent0'], ...block });
  const request = sectorTask(ground, { config });
  return await failureOf(client.call(Driver.method.startTask, { task: request }));
}

const onBridge = (name: string) => ({ network_interface: [{ bridge: { name } }] });

/** Mistakes of a job that only a look at the host's files and at its QEMU finds → what the message names. */
const mistakes: Readonly<Record<string, [config: Keys, message: RegExp]>> = {
  'an image that there is not': [{ image: 'local/none.img' }, /^image: .*none\.img/],
  'an image outside of what is allowed': [{ image: '/etc/passwd' }, /^image: .*\/etc\/passwd/],
  'user data that there is not': [{ user_data: 'local/none.yml' }, /^user_data: .*none\.yml/],
  'user data that is no YAML': [{ user_data: '#cloud-config\n{' }, /^user_data: /],
  'a machine that QEMU has not': [{ os: { machine: 'nope' } }, /os\.machine.*"nope"/],
  'two of them': [
    { image: 'local/none.img', os: { machine: 'nope' } },
    /^image: .*none\.img.*; .*os\.machine/,
  ],
  'one of them, and a bridge that the operator does not allow': [
    { image: 'local/none.img', ...onBridge('other0') },
    /^image: .*none\.img.*; bridge other0 is not a managed network/,
  ],
};

for (const [name, [config, message]] of Object.entries(mistakes)) {
  test(`P-24 V-140: a wrong job is INVALID_ARGUMENT: ${name}`, async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open();
    const failure = await failureOfStart(ground, { config });
    assert.equal(failure.code, INVALID_ARGUMENT, failure.details);
    assert.match(failure.details, message);
    assert.deepEqual(await ground.leftovers(), []);
  });
}

/** What this host lacks → what the message names. */
const lacks: Readonly<Record<string, [config: Keys, message: RegExp]>> = {
  // Nothing is made before that is known, and no image copied.
  'a bridge that the operator does not allow': [onBridge('other0'), /^bridge other0.*bridges = /],
  'a bridge that is allowed and is not there': [onBridge('absent0'), /absent0/],
  'a device for macvtap that the operator does not allow': [
    { network_interface: [{ macvtap: { device: 'other0' } }] },
    /^device other0 is not among .*macvtap_devices = \["other0"\]/,
  ],
};

for (const [name, [config, message]] of Object.entries(lacks)) {
  test(`P-24 V-140: what a host lacks is FAILED_PRECONDITION: ${name}`, async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open();
    const failure = await failureOfStart(ground, { config });
    assert.equal(failure.code, FAILED_PRECONDITION, failure.details);
    assert.match(failure.details, message);
    assert.deepEqual(await ground.leftovers(), []);
  });
}

test('P-24 V-6: a data_dir that can not be made is FAILED_PRECONDITION and named', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const file = join(ground.root, 'file');
  writeFileSync(file, '');
  const failure = await failureOfStart(ground, { block: { data_dir: `${file}/data` } });
  assert.equal(failure.code, FAILED_PRECONDITION, failure.details);
  assert.match(failure.details, /^virt: the driver could not be made ready on this host: .*\/file/);
});
