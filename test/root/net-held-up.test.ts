import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { openTap, withNetns } from '#host';
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

/** Counts the milliseconds in which the event loop comes round. */
class Turns implements Disposable {
  count = 0;
  readonly #timer = setInterval(() => this.count++, 1);

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Has it done over and over until the signal aborts: how long it took at most, and how often the loop came round meanwhile. */
async function longestOf(ask: () => Promise<unknown>, turns: Turns, signal: AbortSignal) {
  let longest = { ms: 0, turns: 0 };
  while (!signal.aborted) {
    const [begun, before] = [performance.now(), turns.count];
    await ask();
    const took = { ms: performance.now() - begun, turns: turns.count - before };
    if (took.ms > longest.ms) longest = took;
    // What waits for nothing gives the loop no turn.
    await setImmediate();
  }
  return longest;
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
    const openAndClose = async (): Promise<void> => {
      await using files = new OpenFiles();
      files.add('tap', (await openTap('nqtap0')).fd);
    };
    const forwarding = 'net/ipv4/conf/lo/forwarding';
    const toggle = async (): Promise<void> => {
      for (const value of ['1', '0']) await writeSysctls({ [forwarding]: value }, other.path);
    };
    const kinds: Readonly<Record<string, () => Promise<unknown>>> = {
      'a link is changed': () => changeLink(netlink, lo, { up: true }, waiting),
      'a link of a group is changed': () => changeLink(group, lo, { up: true }, waiting),
      'links are listed': () => listLinks(listing, waiting),
      'a tap is opened and closed': openAndClose,
      'a tap is refused': () => assert.rejects(openTap('lo'), { errno: 'EINVAL' }),
      'a setting is written': toggle,
    };
    // As the plugin runs: V8's threads wait for a processor while those of the pool do (restart_syscall in the kernel).
    setFlagsFromString('--no-parallel-scavenge');
    const over = new AbortController();
    using turns = new Turns();
    const underWay = Object.entries(kinds).map(
      async ([name, ask]) => [name, await longestOf(ask, turns, over.signal)] as const,
    );
    await deleteLinks().finally(() => over.abort());
    const longest = await Promise.all(underWay);
    const told = JSON.stringify(longest);
    const heldMs = Math.max(...longest.map(([, { ms }]) => ms));
    for (const [name, wait] of longest) {
      // A call of the main thread's own would let the loop come round once, when it returns.
      if (wait.ms > heldMs / 2) assert.ok(wait.turns > wait.ms / 50, `${name}: ${told}`);
    }
    // Nothing of it went to the wrong place.
    assert.equal(readSysctl(forwarding), '0');
    withNetns(other.path, () => assert.equal(readSysctl(forwarding), '0'));
    assert.equal((await listLinks(netlink, waiting)).length, 1);
    t.diagnostic(told);
  });
});
