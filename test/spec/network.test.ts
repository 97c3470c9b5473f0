import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkNetworks, type ManagedNetwork, splitAddress } from '#spec';

const network = { bridge: 'virbr0', address: '192.168.122.1', prefix: 24 };
const second = { bridge: 'virbr1', address: '192.168.122.129', prefix: 25 };

/** Each list of networks with what is reported of it: index, key and text. */
const cases: Readonly<
  Record<string, readonly [networks: readonly ManagedNetwork[], ...expected: RegExp[]]>
> = {
  'the default is fine': [[network]],
  'two that do not meet are fine': [[network, { ...second, address: '10.0.0.1' }]],
  'a name with a slash': [[{ ...network, bridge: '../x' }], /^0 bridge: .* is not a name/],
  'a name with a quote': [[{ ...network, bridge: 'a"b' }], /^0 bridge: .* is not a name/],
  'a name that is too long': [[{ ...network, bridge: 'b'.repeat(16) }], /^0 bridge: .* not a name/],
  'no address': [[{ ...network, address: '192.168.122' }], /^0 address: .* not an IPv4 address/],
  'a leading zero': [[{ ...network, address: '192.168.122.01' }], /^0 address: .* not an IPv4/],
  'the network itself': [
    [{ ...network, address: '192.168.122.0' }],
    /^0 address: "192\.168\.122\.0\/24" is the first address .*: try "192\.168\.122\.1\/24"/,
  ],
  'the broadcast address': [[{ ...network, address: '192.168.122.255' }], /is the last address/],
  'a prefix without room': [[{ ...network, prefix: 30 }], /a prefix length from 8 to 29/],
  'a prefix that is too wide': [[{ ...network, prefix: 4 }], /a prefix length from 8 to 29/],
  'no prefix at all': [[{ ...network, prefix: NaN }], /^0 address: "192\.168\.122\.1" is not/],
  'one bridge twice': [[network, network], /^1 bridge: virbr0 is defined twice/, /^1 address: /],
  'addresses in common': [
    [network, second],
    /^1 address: "192\.168\.122\.129\/25" overlaps with "192\.168\.122\.1\/24" of bridge virbr0/,
  ],
  'name servers that are none': [
    [{ ...network, nameservers: ['9.9.9.9', 'dns'] }],
    /^0 nameservers\[1\]: "dns" is not an IP address/,
  ],
  'name servers of either family': [[{ ...network, nameservers: ['9.9.9.9', '2620:fe::9'] }]],
  'ports of the host, one protocol or both': [
    [{ ...network, hostPorts: ['53', 'tcp/22', 'udp/65535'] }],
  ],
  'ports that are none': [
    [{ ...network, hostPorts: ['22', '0', 'tcp/65536', 'icmp/8', 'tcp/022', 'tcp/80-90'] }],
    /^0 allow_host_ports\[1\]: "0" is not a port, such as 53, "tcp\/22"/,
    /^0 allow_host_ports\[2\]: "tcp\/65536"/,
    /^0 allow_host_ports\[3\]: "icmp\/8"/,
    /^0 allow_host_ports\[4\]: "tcp\/022"/,
    /^0 allow_host_ports\[5\]: "tcp\/80-90"/,
  ],
  'all at once': [
    [{ ...network, bridge: '-' }, second, { ...second, prefix: 31 }],
    /^0 bridge/,
    /^1 address: .* overlaps/,
    /^2 bridge: virbr1 is defined twice/,
    /^2 address: .* prefix length/,
  ],
};
for (const [name, [networks, ...expected]] of Object.entries(cases)) {
  test(`configured networks: ${name}`, () => {
    const problems = checkNetworks(networks).map((it) => `${it.index} ${it.key}: ${it.text}`);
    assert.equal(problems.length, expected.length, problems.join('\n'));
    for (const [at, pattern] of expected.entries()) assert.match(problems[at] ?? '', pattern);
  });
}

test('an address is split where it has the form of one, and kept whole where it has not', () => {
  assert.deepEqual(splitAddress('10.0.0.1/24'), { address: '10.0.0.1', prefix: 24 });
  for (const text of ['10.0.0.1', '10.0.0.1/', '10.0.0.1/024', '10.0.0.1/24/8', '']) {
    assert.deepEqual(splitAddress(text), { address: text, prefix: NaN });
  }
});
