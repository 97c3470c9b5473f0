import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findForeignFilters, type Met } from '../../src/net/firewall/foreign-filters.ts';
import { parseChains } from '../../src/net/rules/listed-chains.ts';

const chain = (name: string, ...rules: readonly string[]): string =>
  `\tchain ${name} {\n${rules.map((rule) => `\t\t${rule}\n`).join('')}\t}\n`;
const table = (name: string, ...chains: readonly string[]): string =>
  `table ${name} {\n${chains.join('\n')}}\n`;
const forward = 'type filter hook forward priority filter; policy accept;';
const dropping = 'type filter hook forward priority filter; policy drop;';
const warning =
  '# Warning: table ip filter is managed by iptables-nft, do not touch!\n# Warning: table ip nat is managed by iptables-nft, do not touch!\n';

const guests: Met = { bridge: 'virbr0', ipv4: true, ipv6: false, isServed: false };
const incoming = (policy: string): string =>
  `type filter hook input priority filter; policy ${policy};`;

const firewalld = [
  chain(
    'filter_FORWARD',
    forward,
    'ct state { established, related } accept',
    'jump zones',
    'ct state invalid drop',
    'reject with icmpx admin-prohibited',
  ),
  chain('filter_FWD_public', 'jump filter_FWD_public_allow', 'ip6 daddr fe80::/10 accept'),
  chain('filter_FWD_trusted', 'accept'),
];

const cases: Readonly<Record<string, readonly [string, readonly string[]]>> = {
  'no rules at all': ['', []],
  'a policy, as Docker sets it': [
    warning +
      table(
        'ip filter',
        chain('INPUT', 'type filter hook input priority filter; policy drop;'),
        chain('FORWARD', dropping, 'counter jump DOCKER-USER'),
        chain('DOCKER-USER'),
      ),
    ['ip filter FORWARD'],
  ],
  'Docker that has a rule for the bridge': [
    table(
      'ip filter',
      chain('FORWARD', dropping, 'counter jump DOCKER-USER'),
      chain(
        'DOCKER-USER',
        'iifname "virbr0" counter accept',
        'oifname "virbr0" counter packets 0 bytes 0 accept',
      ),
    ),
    [],
  ],
  'a rejection at the end, as firewalld has it': [
    table(
      'inet firewalld',
      ...firewalld,
      chain('zones', 'iifname "eth0" goto filter_FWD_public', 'goto filter_FWD_public'),
    ),
    ['inet firewalld filter_FORWARD'],
  ],
  'firewalld with the bridge in a trusted zone': [
    table(
      'inet firewalld',
      ...firewalld,
      chain('zones', 'iifname "virbr0" goto filter_FWD_trusted', 'goto filter_FWD_public'),
    ),
    [],
  ],
  'firewalld with the bridge in another zone': [
    table(
      'inet firewalld',
      ...firewalld,
      chain('zones', 'iifname "virbr0" goto filter_FWD_public', 'goto filter_FWD_public'),
    ),
    ['inet firewalld filter_FORWARD'],
  ],
  'a rule on the bridge by its name, as libvirt has it': [
    table(
      'ip filter',
      chain('FORWARD', forward, 'counter jump LIBVIRT_FWI', 'counter jump LIBVIRT_FWO'),
      chain(
        'LIBVIRT_FWO',
        'ip saddr 192.168.122.0/24 iifname "virbr0" counter accept',
        'iifname "virbr0" counter reject',
      ),
      chain(
        'LIBVIRT_FWI',
        'oifname "virbr1" counter accept',
        'oifname "virbr0" counter xt target "REJECT"',
      ),
    ),
    ['ip filter LIBVIRT_FWI', 'ip filter LIBVIRT_FWO'],
  ],
  'a bridge in a list, by its beginning, with a comment': [
    table(
      'inet a',
      chain('c', forward, 'iifname { "eth0", "virbr*" } counter drop comment "no guests; accept"'),
    ),
    ['inet a c'],
  ],
  'dropping with a word in the log': [
    table('inet a', chain('c', forward, 'log prefix "dropped: " level debug counter drop')),
    ['inet a c'],
  ],
  'rules on other bridges, other hooks, other families, and our own': [
    table(
      'inet a',
      chain(
        'c',
        forward,
        'iifname != "virbr0" drop',
        'oifname "virbr01" drop',
        'ip daddr 192.0.2.1 drop',
      ),
    ) +
      table(
        'inet b',
        chain('c', 'type filter hook input priority filter; policy drop;', 'iifname "virbr0" drop'),
      ) +
      table('bridge c', chain('c', forward, 'iifname "veth*" drop', 'oifname "qmp*" accept')) +
      table('ip6 d', chain('c', dropping)) +
      table(
        'inet nomad_driver_qmp_01234567',
        chain('passing', forward, 'oifname "virbr0" reject with icmpx admin-prohibited'),
      ),
    [],
  ],
  'a rule on the bridge by its number, as libvirt has it in tables of its own': [
    table(
      'ip libvirt_network',
      chain('forward', forward, 'counter jump guest_input'),
      chain('guest_input', 'oif "virbr0" ct state related accept', 'oif "virbr0" counter reject'),
    ),
    ['ip libvirt_network guest_input'],
  ],
  'frames, as ebtables has it': [
    table('bridge filter', chain('FORWARD', dropping, 'iifname "veth0" accept')),
    ['bridge filter FORWARD'],
  ],
  'frames of taps by the beginning of their names': [
    table('bridge a', chain('c', forward, 'oifname "qmp*" drop')),
    ['bridge a c'],
  ],
  'frames, where those of taps are let pass': [
    table('bridge filter', chain('FORWARD', dropping, 'iifname "qmp*" accept')),
    [],
  ],
  'sets and maps between the chains': [
    table(
      'inet a',
      '\tset s {\n\t\ttype ifname\n\t\telements = { "virbr0" }\n\t}\n',
      chain('c', dropping),
    ),
    ['inet a c'],
  ],
};
for (const [name, [text, expected]] of Object.entries(cases)) {
  test(`firewall rules in the way: ${name}`, () => {
    const found = findForeignFilters(parseChains(text), guests);
    assert.deepEqual(
      found.map((each) => each.chain),
      expected,
    );
  });
}

const pair = (command: (way: string) => string): string => `${command('i')} && ${command('o')}`;

const remedies: Readonly<Record<string, readonly [string, string]>> = {
  Docker: [
    table('ip filter', chain('FORWARD', dropping, 'jump DOCKER-USER'), chain('DOCKER-USER')),
    pair((way) => `iptables -I DOCKER-USER -${way} virbr0 -j ACCEPT`),
  ],
  'Docker with IPv6': [
    table('ip6 filter', chain('FORWARD', dropping, 'jump DOCKER-USER'), chain('DOCKER-USER')),
    pair((way) => `ip6tables -I DOCKER-USER -${way} virbr0 -j ACCEPT`),
  ],
  'iptables by hand': [
    table('ip filter', chain('FORWARD', dropping)),
    pair((way) => `iptables -I FORWARD -${way} virbr0 -j ACCEPT`),
  ],
  firewalld: [
    table('inet firewalld', chain('filter_FORWARD', forward, 'reject with icmpx admin-prohibited')),
    'firewall-cmd --permanent --zone=trusted --add-interface=virbr0 && firewall-cmd --reload',
  ],
  'a table of the operator': [
    table('inet filter', chain('forward', dropping)),
    pair((way) => `nft insert rule inet filter forward ${way}ifname virbr0 accept`),
  ],
  'frames of bridges': [
    table('bridge filter', chain('FORWARD', dropping)),
    pair((way) => `nft insert rule bridge filter FORWARD ${way}ifname qmp* accept`),
  ],
  'what comes to the host': [
    table('ip filter', chain('INPUT', incoming('drop')), chain('DOCKER-USER')),
    'iptables -I INPUT -i virbr0 -j ACCEPT',
  ],
  'what comes to the host, with a table of the operator': [
    table('inet filter', chain('in', incoming('accept'), 'ct state established accept', 'drop')),
    'nft insert rule inet filter in iifname virbr0 accept',
  ],
  'Docker whose chain packets of IPv6 do not meet': [
    table('ip6 filter', chain('FORWARD', dropping), chain('DOCKER-USER')),
    pair((way) => `ip6tables -I FORWARD -${way} virbr0 -j ACCEPT`),
  ],
  'ufw, forwarded': [
    table(
      'ip filter',
      chain('FORWARD', dropping, 'jump ufw-user-forward'),
      chain('ufw-user-forward'),
    ),
    'ufw route allow in on virbr0 && ufw route allow out on virbr0',
  ],
  'ufw, to the host': [
    table(
      'ip6 filter',
      chain('INPUT', incoming('drop'), 'jump ufw6-user-input'),
      chain('ufw6-user-input'),
    ),
    'ufw allow in on virbr0',
  ],
};
for (const [name, [text, remedy]] of Object.entries(remedies)) {
  test(`firewall rules in the way: the command to run for ${name}`, () => {
    const found = findForeignFilters(parseChains(text), { ...guests, ipv6: true, isServed: true });
    assert.deepEqual(
      found.map((each) => each.remedy),
      [remedy],
    );
  });
}

test('firewall rules in the way: those of IPv6 are no matter to guests without', () => {
  const text = table('ip6 filter', chain('FORWARD', dropping));
  assert.deepEqual(findForeignFilters(parseChains(text), guests), []);
});

test('firewall rules in the way: a rule on the bridge is none after one that accepts all the same way', () => {
  const ways = (...rules: readonly string[]) =>
    findForeignFilters(parseChains(table('inet a', chain('c', forward, ...rules))), {
      ...guests,
      ipv6: true,
    }).length;
  const drop = 'oifname "virbr0" counter drop';
  assert.equal(ways('oifname "virbr0" accept', drop), 0);
  assert.equal(ways('iifname "virbr0" accept', drop), 1);
  assert.equal(ways('oifname "virbr0" tcp dport 80 accept', drop), 1);
  assert.equal(ways(drop, 'oifname "virbr0" accept'), 1);
});

test('firewall rules in the way: what comes to the host matters where it answers guests', () => {
  const closed = (...rules: readonly string[]) =>
    table('inet a', chain('f', forward, 'iifname "virbr0" accept'), chain('i', ...rules));
  const found = (text: string, isServed: boolean) =>
    findForeignFilters(parseChains(text), { ...guests, isServed }).map(({ chain: each }) => each);
  assert.deepEqual(found(closed(incoming('drop')), true), ['inet a i']);
  assert.deepEqual(found(closed(incoming('drop')), false), []);
  assert.deepEqual(found(closed(incoming('drop'), 'iifname "virbr0" accept'), true), []);
});

test('firewall rules in the way: where the host does not route, those of IP are met with br_netfilter only', () => {
  const text = ['ip a', 'ip6 b', 'inet c', 'bridge d'].map((each) =>
    table(each, chain('c', dropping)),
  );
  const found = (ipv4: boolean, ipv6: boolean) =>
    findForeignFilters(parseChains(text.join('')), { ...guests, ipv4, ipv6 }).map(
      ({ chain: each }) => each,
    );
  assert.deepEqual(found(false, false), ['bridge d c']);
  assert.deepEqual(found(true, false), ['ip a c', 'inet c c', 'bridge d c']);
  assert.deepEqual(found(false, true), ['ip6 b c', 'inet c c', 'bridge d c']);
});
