import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { openTap, spawnDetached, withNetns } from '#host';
import { changeLink, findLink, listLinks, NetlinkSocket } from '#netlink';
import { readSysctl, writeSysctls } from '../../src/net/model/sysctl.ts';
import { OpenFiles } from '../../src/vm/devices/files.ts';
import { inOwnNetns, Namespace } from '../support/netns.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';

// The kernel deletes them all under one lock, that of the links of all namespaces (RTNL): 0.1 to 0.3 s.
const pairs = 1000;

/** Makes many links, and gives what has another program delete them with one request, until its end. */
async function manyLinks(there: Namespace, t: TestContext): Promise<() => Promise<void>> {
  const batch = `${tmpDir(t)}/batch`;
  const each = (_: unknown, at: number) => `link add a${at} group 7 type veth peer name b${at}\n`;
  writeFileSync(batch, Array.from({ length: pairs }, each).join(''));
  await there.ip('-batch', batch);
  // Started before: a spawn holds the event loop until the program runs.
  const script = 'read _ && exec ip link delete group 7';
  const child = spawn('nsenter', [`--net=${there.path}`, '--', 'sh', '-c', script], {
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  return async () => {
    child.stdin.end('\n');
    const [code] = await once(child, 'exit');
    assert.equal(code, 0);
  };
}

/** The stack of a thread in the kernel, from the kernel's lock of links or what spins until that is free. */
const waitsForLinks = 'rtnl|__mutex_lock|tun_chr|sysctl|copy_net_ns';

const watcher = `
const { readFileSync } = require('node:fs');
const { parentPort, workerData: { path, pattern, over } } = require('node:worker_threads');
const seen = { looks: 0, waits: 0, stack: '' };
parentPort.postMessage('watching');
while (Atomics.wait(over, 0, 0, 1) === 'timed-out') {
  const stack = readFileSync(path, 'latin1');
  seen.looks += 1;
  if (!new RegExp(pattern).test(stack)) continue;
  seen.waits += 1;
  seen.stack = stack;
}
parentPort.postMessage(seen);
`;

/**
 * Has another thread look each millisecond where this one, with the event loop, is in the kernel. How late the loop is says
 * nothing here: the other program and the pool's threads need both processors.
 */
async function watchKernel(): Promise<() => Promise<unknown>> {
  const over = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const path = `/proc/self/task/${process.pid}/stack`;
  const worker = new Worker(watcher, {
    eval: true,
    workerData: { path, pattern: waitsForLinks, over },
  });
  await once(worker, 'message');
  return async () => {
    const answer = once(worker, 'message');
    Atomics.store(over, 0, 1);
    Atomics.notify(over, 0);
    return (await answer)[0];
  };
}

function isSeen(answer: unknown): answer is { looks: number; waits: number } {
  return typeof answer === 'object' && answer !== null && 'looks' in answer && 'waits' in answer;
}

/** Has it done over and over until the signal aborts: how long it took at most. */
async function longestOf(ask: () => Promise<unknown>, signal: AbortSignal): Promise<number> {
  let longestMs = 0;
  while (!signal.aborted) {
    const begun = performance.now();
    await ask();
    longestMs = Math.max(longestMs, performance.now() - begun);
    // What waits for nothing gives the loop no turn.
    await setImmediate();
  }
  return longestMs;
}

inOwnNetns(import.meta.url, ['ip', 'nsenter'], () => {
  test('what waits for the kernel while another program deletes links does not hold the event loop', async (t) => {
    await using netlink = await NetlinkSocket.open();
    await using listing = await NetlinkSocket.open();
    await using other = await Namespace.open();
    await using group = await NetlinkSocket.open({ netns: other.path });
    await using busy = await Namespace.open();
    const deleteLinks = await manyLinks(busy, t);
    const waiting = { signal: AbortSignal.timeout(patient(60_000)) };
    const lo = await findLink(netlink, 'lo', waiting);
    assert.ok(lo);
    let taps = 0;
    const openAndClose = async (): Promise<void> => {
      await using files = new OpenFiles();
      // A program that is being started has the last one open for a moment as well.
      files.add('tap', (await openTap(`nqtap${taps++}`)).fd);
    };
    const forwarding = 'net/ipv4/conf/lo/forwarding';
    const toggle = async (): Promise<void> => {
      for (const value of ['1', '0']) await writeSysctls({ [forwarding]: value }, other.path);
    };
    const startAlone = async (): Promise<void> => {
      const child = await spawnDetached({ program: '/bin/true', args: [], stdio: [], alone: true });
      assert.deepEqual(await child.exit, { code: 0, signal: null });
    };
    const kinds: Readonly<Record<string, () => Promise<unknown>>> = {
      'a link is changed': () => changeLink(netlink, lo, { up: true }, waiting),
      'a link of a group is changed': () => changeLink(group, lo, { up: true }, waiting),
      'links are listed': () => listLinks(listing, waiting),
      'a tap is opened and closed': openAndClose,
      'a tap is refused': () => assert.rejects(openTap('lo'), { errno: 'EINVAL' }),
      'a setting is written': toggle,
      'a program is started alone': startAlone,
    };
    // As the plugin runs: V8's threads wait for a processor while those of the pool do (restart_syscall in the kernel).
    setFlagsFromString('--no-parallel-scavenge');
    const over = new AbortController();
    const watched = await watchKernel();
    const underWay = Object.entries(kinds).map(
      async ([name, ask]) => [name, await longestOf(ask, over.signal)] as const,
    );
    await deleteLinks().finally(() => over.abort());
    const longest = await Promise.all(underWay);
    const seen = await watched();
    const told = JSON.stringify({ seen, longest });
    assert.ok(isSeen(seen) && seen.looks > 0, told);
    // A call of the main thread's own would be seen there for as long as the others wait.
    assert.ok(seen.waits <= seen.looks / 10, told);
    // Nothing of it went to the wrong place.
    assert.equal(readSysctl(forwarding), '0');
    withNetns(other.path, () => assert.equal(readSysctl(forwarding), '0'));
    assert.equal((await listLinks(netlink, waiting)).length, 1);
    t.diagnostic(told);
  });
});
