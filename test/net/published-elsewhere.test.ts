import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findPublisher } from '../../src/net/build/plan-ports.ts';
import { findPublished, readPublishedMap } from '../../src/net/rules/published-elsewhere.ts';

const chain = (name: string, ...rules: readonly string[]): string =>
  `\tchain ${name} {\n${rules.map((rule) => `\t\t${rule}\n`).join('')}\t}\n`;
const table = (name: string, ...chains: readonly string[]): string =>
  `table ${name} {\n${chains.join('\n')}}\n`;
const arriving = 'type nat hook prerouting priority dstnat; policy accept;';
const local = ['192.0.2.1', '127.0.0.1', '192.168.122.1'];

/** Which of some ports would be taken, as `protocol/address:port` → the chain. */
function taken(rules: string): Readonly<Record<string, string>> {
  const published = findPublished(rules);
  const found: Record<string, string> = {};
  for (const protocol of ['tcp', 'udp'] as const) {
    for (const hostIp of ['', '192.0.2.1', '192.0.2.7']) {
      for (const hostPort of [53, 80, 8080, 8081, 8090]) {
        const port = { label: 'p', hostIp, hostPort, guestPort: 80, protocol };
        const publisher = findPublisher([port], published, local);
        if (publisher) found[`${protocol}/${hostIp}:${hostPort}`] = publisher.chain;
      }
    }
  }
  return found;
}

const everywhere = (protocol: string, port: number, where: string) =>
  Object.fromEntries(
    ['', '192.0.2.1', '192.0.2.7'].map((ip) => [`${protocol}/${ip}:${port}`, where]),
  );

const cases: Readonly<Record<string, readonly [string, Readonly<Record<string, string>>]>> = {
  'no rules': ['', {}],
  Docker: [
    table(
      'ip nat',
      chain(
        'DOCKER',
        'iifname "docker0" counter packets 0 bytes 0 return',
        'iifname != "docker0" tcp dport 8080 counter packets 3 bytes 180 dnat to 172.17.0.2:80',
        'ip daddr 192.0.2.1 iifname != "docker0" udp dport 8081 counter dnat to 172.17.0.3:53',
      ),
      chain('PREROUTING', arriving, 'fib daddr type local counter packets 9 bytes 1 jump DOCKER'),
    ),
    {
      ...everywhere('tcp', 8080, 'ip nat DOCKER'),
      'udp/:8081': 'ip nat DOCKER',
      'udp/192.0.2.1:8081': 'ip nat DOCKER',
    },
  ],
  'a port range of CNI, as iptables writes it': [
    table(
      'ip nat',
      chain(
        'CNI-HOSTPORT-DNAT',
        'meta l4proto tcp  tcp dport { 8080, 8081 } counter jump CNI-DN-a',
      ),
      chain(
        'CNI-DN-a',
        'ip saddr 10.88.0.0/24 tcp dport 8080 counter jump CNI-HOSTPORT-SETMARK',
        'tcp dport 8080 counter dnat to 10.88.0.2:80',
        'tcp dport 8081-8099 counter xt target "DNAT"',
      ),
      chain('PREROUTING', arriving, 'fib daddr type local counter jump CNI-HOSTPORT-DNAT'),
    ),
    {
      ...everywhere('tcp', 8080, 'ip nat CNI-DN-a'),
      ...everywhere('tcp', 8081, 'ip nat CNI-DN-a'),
      ...everywhere('tcp', 8090, 'ip nat CNI-DN-a'),
    },
  ],
  'kube-proxy: a node port, and the address of a service, which is none of the host': [
    table(
      'ip nat',
      chain('SVC', 'meta l4proto tcp counter dnat to 10.244.0.3:8080'),
      chain(
        'SERVICES',
        'ip daddr 10.96.0.10 udp dport 53 counter jump SVC',
        'fib daddr type local counter jump NODEPORTS',
      ),
      chain('NODEPORTS', 'meta l4proto tcp  tcp dport 8090 counter jump SVC'),
      chain('PREROUTING', arriving, 'counter jump SERVICES'),
    ),
    everywhere('tcp', 8090, 'ip nat NODEPORTS'),
  ],
  'a proxy for all, and maps': [
    table(
      'inet proxy',
      chain(
        'in',
        arriving,
        'tcp dport 80 redirect to :3128',
        'dnat ip to tcp dport map { 8080 : 10.0.0.4, 8081 : 10.0.0.5 }',
        'meta l4proto { tcp, udp } th dport 53 dnat ip to 10.0.0.3',
      ),
    ),
    {
      ...everywhere('tcp', 53, 'inet proxy in'),
      ...everywhere('tcp', 80, 'inet proxy in'),
      ...everywhere('tcp', 8080, 'inet proxy in'),
      ...everywhere('tcp', 8081, 'inet proxy in'),
      ...everywhere('udp', 53, 'inet proxy in'),
    },
  ],
  'what does not hold for packets from anywhere, or not for those that arrive': [
    table(
      'ip nat',
      chain('PREROUTING', arriving, 'iifname "wg0" tcp dport 80 counter dnat to 10.9.0.2'),
      chain(
        'OUTPUT',
        'type nat hook output priority -100; policy accept;',
        'tcp dport 80 redirect',
      ),
      chain('unused', 'tcp dport 8080 dnat to 10.0.0.9'),
      chain('FILTER', 'type filter hook prerouting priority 0;', 'tcp dport 8081 accept'),
    ),
    {},
  ],
  'chains that lead in a circle, which no kernel takes': [
    table('ip nat', chain('a', arriving, 'tcp dport 80 jump a'), chain('b', 'jump a')),
    {},
  ],
};
for (const [name, [rules, expected]] of Object.entries(cases)) {
  test(`V-112: ports that other programs publish: ${name}`, () =>
    assert.deepEqual(taken(rules), expected));
}

const arrivingOf = (table6: string, ...rules: readonly string[]): string =>
  table(table6, chain('PREROUTING', arriving, ...rules));
const docker6 = 'iifname != "docker0" tcp dport 8080 counter dnat to [fd00::2]:80';

/** A port of the host that such rules lead elsewhere, or not. */
const sixes: readonly (readonly [string, string, boolean])[] = [
  [arrivingOf('ip6 nat', docker6), '', true],
  [arrivingOf('ip6 nat', docker6), '2001:db8::1', true],
  [arrivingOf('ip6 nat', docker6), '192.0.2.1', false],
  [arrivingOf('ip nat', 'tcp dport 8080 dnat to 10.0.0.2:80'), '2001:db8::1', false],
  [arrivingOf('inet a', 'tcp dport 8080 redirect to :80'), '2001:db8::1', true],
  [arrivingOf('inet a', 'tcp dport 8080 dnat ip to 10.0.0.2:80'), '2001:db8::1', false],
  [arrivingOf('inet a', 'meta nfproto ipv6 tcp dport 8080 redirect'), '192.0.2.1', false],
  [arrivingOf('ip6 nat', 'ip6 daddr 2001:db8::1 tcp dport 8080 dnat to fd00::2'), '', true],
  [arrivingOf('ip6 nat', 'ip6 daddr 2001:db8::/64 tcp dport 8080 redirect'), '2001:db8::1', true],
  [arrivingOf('ip6 nat', 'ip6 daddr fd96::a tcp dport 8080 dnat to fd00::2'), '', false],
  [arrivingOf('ip6 nat', 'ip6 daddr != ::1 tcp dport 8080 dnat to fd00::2'), '2001:db8::1', true],
];
test('V-112: ports that other programs publish over IPv6', () => {
  for (const [rules, hostIp, isTaken] of sixes) {
    const port = { label: 'p', hostIp, hostPort: 8080, guestPort: 80 };
    const publisher = findPublisher([port], findPublished(rules), [...local, '2001:db8::1']);
    assert.equal(publisher !== undefined, isTaken, `${hostIp || '*'} by ${rules}`);
  }
  const everywhere6 = { label: 'p', hostIp: '', hostPort: 8080, guestPort: 80 };
  const found = findPublished(arrivingOf('ip6 nat', docker6));
  assert.equal(findPublisher([everywhere6], found, local), undefined, 'a guest without IPv6');
});

test('V-112: the ports of another agent are in its maps', () => {
  const text = `table inet nomad_driver_qmp_01234567 {
	map published {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		elements = { 192.0.2.1 . tcp . 8080 : 192.168.122.9 . 80,
			     192.0.2.1 . udp . 8081 : 192.168.122.9 . 81 }
	}
}`;
  const everyAddress = 'elements = { tcp . 9090 : 192.168.122.9 . 80 }';
  assert.deepEqual(readPublishedMap(text, 'c'), [
    { chain: 'c', protocols: ['tcp'], first: 8080, last: 8080, family: 4, address: '192.0.2.1' },
    { chain: 'c', protocols: ['udp'], first: 8081, last: 8081, family: 4, address: '192.0.2.1' },
  ]);
  assert.deepEqual(readPublishedMap(everyAddress, 'c'), [
    { chain: 'c', protocols: ['tcp'], first: 9090, last: 9090, family: 4 },
  ]);
  const six = `table inet nomad_driver_qmp_01234567 {
	map published6 {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
		elements = { 2001:db8::1 . tcp . 8080 : fd12::9 . 80,
			     fd00::1 . udp . 8081 : fd12::9 . 81 }
	}
}`;
  assert.deepEqual(
    readPublishedMap(six, 'c').map(({ family, address, first }) => [family, address, first]),
    [
      [6, '2001:db8::1', 8080],
      [6, 'fd00::1', 8081],
    ],
  );
});
