import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findForeignFilters, type Met } from '../../src/net/firewall/foreign-filters.ts';
import { parseLegacyRules } from '../../src/net/firewall/legacy-rules.ts';
import { type ListedChain, parseChains } from '../../src/net/rules/listed-chains.ts';

const recorded = (name: string): string =>
  readFileSync(join(import.meta.dirname, 'libvirt', name), 'utf8');
const guests: Met = {
  bridge: 'virbr0',
  ipv4: true,
  ipv6: true,
  subnets: ['192.168.122.0/24'],
  isServed: false,
};
const legacy = (text: string): readonly ListedChain[] =>
  parseLegacyRules(text, { program: 'iptables-legacy', family: 'ip' });
const filters = (...lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('');
const pair = (command: (way: string) => string): string => `${command('i')} && ${command('o')}`;
const atForward = pair((way) => `iptables-legacy -I FORWARD -${way} virbr0 -j ACCEPT`);
const atDocker = pair((way) => `iptables-legacy -I DOCKER-USER -${way} virbr0 -j ACCEPT`);

const [rules = ''] = recorded('libvirt-9.0.0.iptables').split('*nat');
const ofNft = recorded('libvirt-11.3.0.nft');
const accept = filters('-A FORWARD -i virbr0 -j ACCEPT', '-A FORWARD -o virbr0 -j ACCEPT');
const docker = (where: string): string =>
  rules
    .replace(':FORWARD ACCEPT', ':DOCKER-USER - [0:0]\n:FORWARD DROP')
    .replace(where, `-A FORWARD -j DOCKER-USER\n${where}`)
    .replace(
      'COMMIT',
      filters(
        '-A DOCKER-USER -i virbr0 -j ACCEPT',
        '-A DOCKER-USER -o virbr0 -j ACCEPT',
        '-A DOCKER-USER -j RETURN',
        'COMMIT',
      ).trim(),
    );

type Case = readonly [chains: readonly ListedChain[], ...found: (readonly [string, string])[]];

const cases: Readonly<Record<string, Case>> = {
  'the network default: what comes from outside alone is rejected': [
    legacy(rules),
    ['iptables-legacy filter LIBVIRT_FWI', atForward],
  ],
  'the same in a table of its own': [
    parseChains(ofNft),
    [
      'ip libvirt_network guest_input',
      pair((way) => `nft insert rule ip libvirt_network forward ${way}ifname virbr0 accept`),
    ],
  ],
  'the command was run, and stays ahead of the chains that libvirt makes again': [
    legacy(rules.replace('-A FORWARD -j LIBVIRT_FWX\n', (first) => accept + first)),
  ],
  'the same rules behind those of libvirt change nothing': [
    legacy(rules.replace('-A FORWARD -j LIBVIRT_FWO\n', (last) => last + accept)),
    ['iptables-legacy filter LIBVIRT_FWI', atForward],
  ],
  'a network of mode route, whose addresses are let in': [
    legacy(rules.replace(' -m conntrack --ctstate RELATED,ESTABLISHED', '')),
  ],
  'an isolated one lets nothing pass': [
    legacy(rules.replaceAll(/^-A LIBVIRT_FW[IO] .* -j ACCEPT\n/gm, '')),
    ['iptables-legacy filter LIBVIRT_FWI', atForward],
    ['iptables-legacy filter LIBVIRT_FWO', atForward],
  ],
  'one with other addresses on the bridge': [
    legacy(rules.replaceAll('192.168.122.', '192.168.123.')),
    ['iptables-legacy filter LIBVIRT_FWI', atForward],
    ['iptables-legacy filter LIBVIRT_FWO', atForward],
  ],
  'a rule in the chain of Docker for users, which comes first': [
    legacy(docker('-A FORWARD -j LIBVIRT_FWX')),
  ],
  'the same where libvirt comes first': [
    legacy(docker('-A OUTPUT')),
    ['iptables-legacy filter LIBVIRT_FWI', atForward],
  ],
  'networks on other bridges': [legacy(rules.replaceAll('virbr0', 'virbr1'))],
};

for (const [name, [chains, ...found]] of Object.entries(cases)) {
  test(`libvirt's rules in the way: ${name}`, () => {
    assert.deepEqual(
      findForeignFilters(chains, guests),
      found.map(([chain, remedy]) => ({ chain, remedy })),
    );
  });
}

test('legacy rules in the way: a policy, rules for many links, comments and other targets', () => {
  const found = (...lines: readonly string[]) =>
    findForeignFilters(legacy(filters(':FORWARD ACCEPT [3:7]', ...lines)), guests);
  const one = (chain: string, remedy = atForward) => [
    { chain: `iptables-legacy filter ${chain}`, remedy },
  ];
  assert.deepEqual(found(), []);
  assert.deepEqual(found('-A FORWARD -j DROP'), one('FORWARD'));
  assert.deepEqual(found('-A FORWARD -m comment --comment "-j \\"x\\"" -j DROP'), one('FORWARD'));
  assert.deepEqual(found('-A FORWARD -o virbr+ -j REJECT --reject-with tcp-reset'), one('FORWARD'));
  assert.deepEqual(found('-A FORWARD ! -o virbr0 -j DROP'), []);
  assert.deepEqual(found('-A FORWARD -s 192.0.2.0/24 -j DROP', '-A FORWARD -j LOG'), []);
  assert.deepEqual(
    found(':own - [0:0]', '-A FORWARD -g own', '-A own -i virbr0 -j DROP'),
    one('own'),
  );
  const closed = (...lines: readonly string[]) =>
    findForeignFilters(legacy(filters(':FORWARD DROP [0:0]', ...lines)), guests);
  assert.deepEqual(closed(), one('FORWARD'));
  assert.deepEqual(
    closed(':DOCKER-USER - [0:0]', '-A FORWARD -j DOCKER-USER'),
    one('FORWARD', atDocker),
  );
  assert.deepEqual(closed('-A FORWARD -i virbr0 -j ACCEPT', '-A FORWARD -o virbr0 -j ACCEPT'), []);
});
