import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { askVm } from '#vm';
import { Driver, type TaskHandle } from '../../src/plugin/gen/driver_pb.ts';
import { openFiles } from '../support/open-files.ts';
import { launch, sectorTask } from '../support/sector-task.ts';
import { tmpDir } from '../support/tmp.ts';
import { canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

const { method } = Driver;
/** What QEMU is to write the picture into. */
const screen = 'memfd:screen';
type Launched = Awaited<ReturnType<typeof launch>>;

async function kill({ plugin }: Launched): Promise<void> {
  plugin.kill('SIGKILL');
  await plugin.exit;
  await plugin[Symbol.asyncDispose]();
}

test('P-37 P-39 V-93: a plugin that is killed in the middle of a screenshot, an adoption or a stop leaves a VM that the next one has whole', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const request = sectorTask(ground);
  const [taskId, allocId] = [request.id ?? '', request.allocId ?? ''];
  let now = await launch(ground);
  const { handle } = await now.client.call(method.startTask, { task: request });
  const recover = (): Promise<unknown> =>
    now.client.call(method.recoverTask, { handle: handle as TaskHandle });
  const pidOf = async (): Promise<number> =>
    Number((await now.client.call(method.inspectTask, { taskId })).driver?.attributes.pid);
  const pid = await pidOf();
  const count = (owner: number, kind: string): number =>
    openFiles(owner).filter((path) => path.includes(kind)).length;
  const picture = join(tmpDir(t), 'screen.png');

  await t.test('a screenshot', async () => {
    process.kill(pid, 'SIGSTOP');
    const asked = askVm(
      {
        dataDir: ground.options.dataDir,
        task: { alloc: allocId, task: request.name ?? '' },
        request: { command: 'screenshot', path: picture },
        onProgress: () => {},
      },
      soon(),
    ).catch(String);
    // Its own descriptor and the one that QEMU is given.
    await eventually(() => count(now.plugin.pid, screen) === 2, 'the file is passed on');
    await kill(now);
    assert.match(String(await asked), /the plugin ended before it was done/);
    process.kill(pid, 'SIGCONT');
  });

  await t.test('an adoption', async () => {
    now = await launch(ground);
    const sockets = count(now.plugin.pid, 'socket:');
    process.kill(pid, 'SIGSTOP');
    recover().catch(() => {});
    await eventually(() => count(now.plugin.pid, 'socket:') > sockets, 'it connects to QEMU');
    await kill(now);
    process.kill(pid, 'SIGCONT');
  });

  await t.test('a stop', async () => {
    now = await launch(ground);
    await recover();
    assert.equal(await pidOf(), pid);
    await eventually(() => count(pid, screen) === 0, 'QEMU has closed the file');
    const events = now.client.stream(method.taskEvents, {});
    const timeout = { seconds: 600n };
    now.client.call(method.stopTask, { taskId, timeout }).catch(() => {});
    const pressed = (): boolean => events.messages.some(({ message }) => /ACPI/.test(message));
    await eventually(pressed, 'the power button is pressed');
    await kill(now);
  });

  now = await launch(ground);
  await using _last = now.plugin;
  await recover();
  assert.equal(await pidOf(), pid);
  const waiting = now.client.call(method.waitTask, { taskId });
  await now.client.call(method.stopTask, { taskId, timeout: { seconds: 1n } });
  await waiting;
  await now.client.call(method.destroyTask, { taskId, force: true });
  assert.deepEqual(await ground.leftovers(), []);
});
