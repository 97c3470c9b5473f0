import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { create } from '@bufbuild/protobuf';
import type { ShareSpec, UserData, VmSpec } from '#spec';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { task } from '../plugin/requests.ts';
import { diskOn } from '../support/disks.ts';
import { fwCfgDisk } from '../support/fw-cfg-guest.ts';
import { told } from '../support/live-vm.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

const ignition = JSON.stringify({
  ignition: { version: '3.4.0' },
  passwd: { users: [{ name: 'core', passwordHash: 'the-secret,=' }] },
});
const text: UserData = { kind: 'inline', text: ignition };

/** What a job for the builtin driver with this argument comes to. */
function guestOf(fwCfg: string): Pick<VmSpec, 'guest' | 'seed'> {
  const config = { image_path: 'fw-cfg.raw', args: ['-fw_cfg', fwCfg] };
  const limits = { minMemoryMiB: 1, minDiskMiB: 1, maxDiskMiB: 1024, maxConnections: 1024 };
  const { spec, problems } = planTask(create(TaskConfigSchema, task({ config })), {
    driverName: 'qemu',
    hostArch: 'x86_64',
    limits,
    pools: { pools: [], default: undefined },
  });
  assert.deepEqual(problems, []);
  const { guest, seed } = spec;
  return { guest, ...(seed === undefined ? {} : { seed }) };
}

/** What the guest's console shows of the file, and QEMU's command line. */
async function shown(
  t: TestContext,
  given: UserData | Pick<VmSpec, 'guest' | 'seed'>,
  { nine = false }: { readonly nine?: boolean } = {},
): Promise<{ readonly console: string; readonly line: string } | undefined> {
  if (!canRunVms(t)) return undefined;
  await using ground = VmGround.open();
  const image = join(ground.taskDir, 'fw-cfg.raw');
  writeFileSync(image, fwCfgDisk());
  writeFileSync(join(ground.taskDir, 'packed'), gzipSync(ignition));
  const data = join(ground.taskDir, 'data');
  mkdirSync(data);
  const share: ShareSpec = { tag: 'd', source: data, target: '/d', readOnly: true, ninePfs: true };
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const spec = ground.spec(0, {
    ...pipes,
    disks: [diskOn(image, 1)],
    shares: nine ? [share] : [],
    ...('guest' in given ? given : { guest: { ...ground.spec(0).guest, userData: given } }),
  });
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(spec, soon(60_000));
  const { ignition: path } = ground.paths();
  assert.ok(!existsSync(path), 'the file stays after QEMU has read it');
  await told(log, /(\}|no such file)\n/, 30_000);
  const line = readFileSync(`/proc/${domain.record.pid}/cmdline`, 'latin1');
  await virtualizer.destroyDomain(domain.name);
  return { console: log.text, line };
}

test('V-65: Ignition is in the guest’s firmware configuration, and in no command line', async (t) => {
  const found = await shown(t, text);
  if (found === undefined) return;
  assert.ok(found.console.includes(`${ignition}\n`), found.console);
  assert.ok(!found.line.includes('the-secret'));
});

test('V-65: also where QEMU sees the files of the host, and for a file that is packed', async (t) => {
  const found = await shown(t, { kind: 'file', path: 'packed' }, { nine: true });
  if (found === undefined) return;
  assert.ok(found.console.includes(`${ignition}\n`), found.console);
});

test('V-136 V-65: -fw_cfg of a job for the builtin driver is what the guest finds there', async (t) => {
  const found = await shown(t, guestOf('name=opt/com.coreos/config,file=packed'));
  if (found === undefined) return;
  assert.ok(found.console.includes(`${ignition}\n`), found.console);
});

test('other user data is not there', async (t) => {
  const found = await shown(t, { kind: 'inline', text: '#!/bin/sh\n' });
  if (found !== undefined) assert.match(found.console, /no such file/);
});
