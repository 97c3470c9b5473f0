import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readOnlyDisk } from '#qemu';
import { QmpClient } from '#qmp';
import { sendCommand } from '../support/qmp-commands.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

test('what describes a device on the command line plugs it into a VM that runs', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const starter = await ground.starter(ground.spec(0));
  await starter.create();
  // Its plugin process is the only client of the monitor.
  await starter.kill();
  const { qmp } = ground.paths();
  const part = readOnlyDisk({ id: 'extra', device: 'extra0', serial: 'extra' });
  // QEMU sees nothing of the host but /usr.
  const options = part.options({ fd: () => assert.fail(), path: () => '/usr/lib/os-release' });
  for (const option of options) {
    assert.ok('json' in option, 'this device needs no option in text form');
    if (option.option === 'blockdev') await sendCommand(qmp, 'blockdev-add', option.json, soon());
    else await sendCommand(qmp, 'device_add', { ...option.json, bus: 'spare0' }, soon());
  }
  await using client = await QmpClient.connect(qmp, soon());
  const nodes = await client.execute('query-named-block-nodes', { flat: true }, soon());
  assert.ok(nodes.some((node) => node['node-name'] === 'extra'));
});
