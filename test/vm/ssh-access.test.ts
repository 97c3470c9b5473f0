import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { test } from 'node:test';
import { findProgram, UndoLog } from '#host';
import { heldFiles } from '#qemu';
import { factsOf, type Prepared } from '../../src/vm/devices/device.ts';
import { prepareSsh } from '../../src/vm/devices/ssh.ts';
import { vmPaths } from '../../src/vm/store/paths.ts';
import { decodeVmUndo, type VmUndo } from '../../src/vm/store/undo.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect, soon, uidRange } from '../support/vm.ts';

const gateway = '192.0.2.254';
const nic = (hostAddress: string | undefined): Prepared => ({
  part: heldFiles('net0', []),
  record: {
    kind: 'nic',
    id: 'net0',
    tap: 'tap0',
    mac: '52:54:00:00:00:10',
    bridge: 'br0',
    ip: '192.0.2.10',
    portMap: {},
  },
  guest: {
    nics: [
      {
        mac: '52:54:00:00:00:10',
        address: '192.0.2.10',
        prefix: 24,
        gateway,
        nameservers: [],
        searches: [],
        isDefaultRoute: true,
      },
    ],
  },
  ...(hostAddress !== undefined && { hostAddress }),
});

for (const [where, hostAddress, options] of [
  [
    'in a managed network, from the address of the host there',
    '192.0.2.1',
    'restrict,pty,from="192.0.2.1"',
  ],
  [
    'on a bridge of others, whose gateway is not the host, from anywhere',
    undefined,
    'restrict,pty',
  ],
] as const) {
  test(`V-95: the driver's key opens a guest ${where}`, async (t) => {
    if (!requireOrSkip(t, findProgram('ssh') !== undefined, 'needs ssh')) return;
    const dir = tmpDir(t);
    const paths = vmPaths('vm-0', `${dir}/data`, `${dir}/run`);
    mkdirSync(paths.dir, { recursive: true });
    const log = collect([]);
    const undo = await UndoLog.open<VmUndo>(paths.undo, async () => undefined, {
      decode: decodeVmUndo,
      log,
    });
    const site = { vm: 'vm-0', paths, undo };
    const host = { dataDir: `${dir}/data`, uidRange };
    const ssh = prepareSsh({}, [nic(hostAddress)], { host, site }, soon());
    const [facts] = await factsOf(ssh);
    const key = facts?.guest?.ssh?.authorizedKey ?? '';
    assert.equal(key.slice(0, key.indexOf(' ')), options);
  });
}
