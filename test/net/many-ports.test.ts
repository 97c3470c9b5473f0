import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PortSpec } from '#spec';
import { findListenedOn } from '../../src/net/build/host-port.ts';
import { checkPorts, findConflicts } from '../../src/net/build/plan-ports.ts';
import { changesOf } from '../../src/net/rules/changes.ts';
import { formatRuleset } from '../../src/net/rules/ruleset.ts';
import { anyOf } from '../../src/net/rules/stale-flows.ts';

/** Nomad has this many for its jobs unless the operator says otherwise. */
const count = 12_000;
const portsFrom = (first: number): readonly PortSpec[] =>
  Array.from({ length: count }, (_, at) => ({
    label: `p${at}`,
    hostIp: '',
    hostPort: first + at,
    guestPort: 80,
  }));

const record = {
  bridge: 'virbr0',
  address: '192.168.122.1',
  prefix: 24,
  owned: true,
  hostAccess: 'closed',
  nameservers: ['192.0.2.53'],
  dns: true,
  domain: 'virbr0.internal',
  upstream: [],
} as const;

const maxMs = 100;
const rounds = 5;

/** How long this thread works, at best: compilation and garbage come and go. */
function workMs(work: () => void): number {
  return Math.min(
    ...Array.from({ length: rounds }, () => {
      const begun = process.threadCpuUsage();
      work();
      const { user, system } = process.threadCpuUsage(begun);
      return (user + system) / 1000;
    }),
  );
}

test('V-112: as many ports as a node has are compared with those of others at once', () => {
  const request = {
    kind: 'bridge',
    vm: 'web',
    index: 0,
    hostname: 'web',
    bridge: 'virbr0',
  } as const;
  const own = { ...request, ports: portsFrom(20_000) };
  const claim = {
    ip: '192.168.122.9',
    vm: 'other',
    index: 0,
    mac: '52:54:00:00:00:01',
    tap: 'qmp00000001',
    hostname: 'other',
    ports: portsFrom(40_000),
  };
  const ms = workMs(() => {
    checkPorts(own);
    assert.deepEqual(findConflicts(own, [{ record, claims: [claim] }]), []);
  });
  assert.ok(ms <= maxMs, `${ms.toFixed(0)} ms`);
});

test('V-112: the rules of one VM more among thousands of ports are found sooner than all are written', () => {
  const claims = Array.from({ length: 100 }, (_, at) => ({
    ip: `192.168.122.${at}`,
    ip6: `fd00:1::${at}`,
    vm: `vm${at}`,
    index: 0,
    mac: `52:54:00:00:01:${String(at).padStart(2, '0')}`,
    tap: `qmp${at}`,
    hostname: `vm${at}`,
    ports: portsFrom(20_000).slice((at * count) / 100, ((at + 1) * count) / 100),
  }));
  const scriptOf = (some: typeof claims) => formatRuleset('test', [{ record, claims: some }]);
  const [before, after] = [scriptOf(claims.toSpliced(50, 1)), scriptOf(claims)];
  const changesMs = workMs(() => assert.match(changesOf(before, after) ?? '', /192\.168\.122\.50/));
  const writtenMs = workMs(() => void scriptOf(claims));
  assert.ok(changesMs < 0.7 * writtenMs, `${changesMs} ms to ${writtenMs} ms`);
});

test('V-112: what listens on thousands of ports is looked at in turns', async () => {
  let [turns, isOver] = [0, false];
  const turn = (): void => {
    turns += 1;
    if (!isOver) setImmediate(turn);
  };
  turn();
  const ports = portsFrom(20_000).slice(0, 1000);
  await findListenedOn(ports.map((port) => ({ ...port, hostIp: '192.0.2.1' })));
  isOver = true;
  assert.ok(turns > ports.length / 100, `looked at in ${turns} turns of the event loop`);
});

test('V-112: tracked connections are compared with the ports that they lead to, and no others', () => {
  const searches = portsFrom(20_000).map(({ hostPort: port }) => ({
    filter: { side: 'original', isIpv6: false, target: { protocol: 17, port } } as const,
    isMeant: () => true,
  }));
  const flows = Array.from({ length: 1024 }, (_, at) => {
    const side = { source: '192.0.2.9', destination: '192.0.2.2', sourcePort: 40_000 };
    const original = { ...side, destinationPort: 31_000 + at * 2 };
    return { protocol: 17, original, reply: { ...side, destinationPort: 40_000 }, key: [] };
  });
  const { isMeant } = anyOf(searches);
  const meant = flows.filter(({ original: { destinationPort } }) => destinationPort < 32_000);
  assert.deepEqual(flows.filter(isMeant), meant);
  const spentMs = workMs(() => void flows.filter(isMeant));
  assert.ok(spentMs < maxMs, `${Math.round(spentMs)} ms of work`);
});
