import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findPublisher } from '../../src/net/build/plan-ports.ts';
import { readElements } from '../../src/net/rules/listed-chains.ts';
import { findPublished, setsOfPublished } from '../../src/net/rules/published-elsewhere.ts';

test('V-112: the ports of kube-proxy with nftables are in its maps, at the addresses of its set', () => {
  const text = readFileSync(join(import.meta.dirname, '../root/kube-proxy/nftables.nft'), 'utf8');
  const asked = ['map service-ips', 'set nodeport-ips', 'map service-nodeports'];
  assert.deepEqual(
    setsOfPublished(text),
    ['ip', 'ip6'].flatMap((family) =>
      asked.map((each) => each.replace(' ', ` ${family} kube-proxy `)),
    ),
  );
  const published = findPublished(text, (object) => {
    const [kind = '', family = '', name = '', set = ''] = object.split(' ');
    const [, inTable = ''] = text.split(`table ${family} ${name} {`);
    return readElements(inTable.slice(inTable.indexOf(`${kind} ${set} {`)));
  });
  const chainOf = (hostIp: string, hostPort: number, protocol: 'tcp' | 'udp' = 'tcp') => {
    const port = { label: 'p', hostIp, hostPort, guestPort: 80, protocol };
    return findPublisher([port], published, [
      '192.0.2.1',
      '127.0.0.1',
      '192.168.122.1',
      '2001:db8:2::1',
    ])?.chain;
  };
  const external = 'ip kube-proxy external-5YJHU7J2-ns1/nodeport/tcp/p80';
  assert.equal(chainOf('', 30080), external);
  assert.equal(chainOf('192.0.2.1', 30080), external);
  assert.equal(chainOf('2001:db8:2::1', 30080), external.replace('ip', 'ip6'));
  // The load balancer's address, which is the host's on a cluster of one node.
  assert.match(chainOf('203.0.113.10', 80) ?? '', /^ip kube-proxy external-FCBKHWL6-ns1\/lb/);
  for (const elsewhere of [
    chainOf('192.0.2.7', 30080),
    chainOf('127.0.0.1', 30080),
    chainOf('', 30080, 'udp'),
    chainOf('', 30081),
    chainOf('', 80),
  ]) {
    assert.equal(elsewhere, undefined);
  }
});

test('V-112: ports of maps in the rules themselves', () => {
  const inline = (selector: string, key: string) =>
    [
      'table inet a {',
      '\tchain PREROUTING {',
      '\t\ttype nat hook prerouting priority dstnat; policy accept;',
      `\t\t${selector} vmap { ${key} : jump to, 9 : drop }`,
      '\t}',
      '\tchain to {',
      '\t\tdnat ip to 10.0.0.2:80',
      '\t}',
      '}',
      '',
    ].join('\n');
  for (const [selector, key, expected] of [
    ['tcp dport', '80', { protocols: ['tcp'], chain: 'inet a to' }],
    ['udp dport', '80', { protocols: ['udp'], chain: 'inet a to' }],
    ['ip daddr . th dport', '192.0.2.1 . 80', { address: '192.0.2.1', chain: 'inet a to' }],
    ['tcp dport 80 numgen random mod 2', '0', { protocols: ['tcp'], chain: 'inet a PREROUTING' }],
    ['iifname . tcp dport', '"wg0" . 80', undefined],
  ] as const) {
    const [found, ...others] = findPublished(inline(selector, key));
    assert.deepEqual(others, []);
    if (expected === undefined) assert.equal(found, undefined);
    else assert.partialDeepStrictEqual(found, { first: 80, last: 80, ...expected });
  }
});
