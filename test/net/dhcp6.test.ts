import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpv6, parseAddress6, parseIpv6 } from '#spec';
import { encodeAdvertisement } from '../../src/net/dhcp/advertisement.ts';
import { answer6 } from '../../src/net/dhcp/answer6.ts';
import { type Dhcp6Reply, decodeQuery6, encodeReply6 } from '../../src/net/dhcp/message6.ts';
import { byLinkLocal, type Network6, senderOf, serverIdOf } from '../../src/net/dhcp/network6.ts';
import type { Claim } from '../../src/net/store/claim.ts';

const own = 'fd12::57';
const other = 'fd12::99';
const claim: Claim = {
  ip: '192.168.122.87',
  ip6: own,
  vm: 'web',
  index: 0,
  mac: '52:54:00:01:02:03',
  tap: 'qmp00000000',
  hostname: 'web-1',
  ports: [],
};
const network: Network6 = {
  address: parseAddress6('fd12::1/64') ?? assert.fail(),
  mac: '52:54:00:aa:bb:cc',
  serverId: serverIdOf('52:54:00:aa:bb:cc'),
  nameservers: [parseIpv6('fd12::1') ?? 0n],
  searches: ['lan.internal'],
  mtu: 1450,
};
const duid = '00030001525400010203';
const ours = '00030001525400aabbcc';

/** Options as hexadecimal text, by their number. */
type Options = readonly (readonly [code: number, value: string])[];

const option = (code: number, value: string): string =>
  `${code.toString(16).padStart(4, '0')}${(value.length / 2).toString(16).padStart(4, '0')}${value}`;

const query = (type: number, options: Options): Buffer => {
  const all = options.map(([code, value]) => option(code, value)).join('');
  return Buffer.from(`${type.toString(16).padStart(2, '0')}abcdef${all}`, 'hex');
};

const hex = (address: string): string => (parseIpv6(address) ?? 0n).toString(16).padStart(32, '0');
const addressOf = (address: string): string => option(5, `${hex(address)}${'0'.repeat(16)}`);
const association = (...addresses: readonly string[]): string =>
  `00000007${'0'.repeat(16)}${addresses.map(addressOf).join('')}`;

const client = [1, duid] as const;
const server = [2, ours] as const;

/** A reply in short: its type, its status, and what each association is granted. */
function shown(reply: Dhcp6Reply | undefined): string | undefined {
  if (reply === undefined) return undefined;
  const grants = reply.grants.map(({ kind, addresses, status }) =>
    [
      kind,
      ...addresses.map(
        ({ address, lifetimeSeconds }) =>
          `${lifetimeSeconds === 0 ? '-' : '+'}${formatIpv6(address)}`,
      ),
      ...(status === undefined ? [] : [`status ${status}`]),
    ].join(' '),
  );
  const flags = [
    ...(reply.rapidCommit ? ['rapid'] : []),
    ...(reply.status === undefined ? [] : [`status ${reply.status}`]),
  ];
  return [reply.type, ...flags, ...grants].join(', ');
}

const cases: Readonly<Record<string, readonly [number, Options, string | undefined]>> = {
  'a client that solicits is offered its address': [
    1,
    [client, [3, association()]],
    `advertise, address +${own}`,
  ],
  'with rapid commit it has it at once': [
    1,
    [client, [3, association()], [14, '']],
    `reply, rapid, address +${own}`,
  ],
  'a request is granted': [3, [client, server, [3, association(own)]], `reply, address +${own}`],
  'a request for another address gets its own': [
    3,
    [client, server, [3, association(other)]],
    `reply, address +${own} -${other}`,
  ],
  'a renewal is granted': [5, [client, server, [3, association(own)]], `reply, address +${own}`],
  'a rebinding is granted': [6, [client, [3, association(own)]], `reply, address +${own}`],
  'a second address, a temporary one and a prefix are not to be had': [
    1,
    [client, [4, '00000001'], [3, association()], [3, association()], [25, association()]],
    `advertise, temporary status 2, address +${own}, address status 2, prefix status 6`,
  ],
  'an address that is right is confirmed': [4, [client, [3, association(own)]], 'reply, status 0'],
  'one that is not, is not': [4, [client, [3, association(own, other)]], 'reply, status 4'],
  'where there is nothing to confirm there is no answer': [
    4,
    [client, [3, association()]],
    undefined,
  ],
  'a release is acknowledged': [8, [client, server, [3, association(own)]], 'reply, status 0'],
  'so is a refusal': [9, [client, server, [3, association(own)]], 'reply, status 0'],
  'a client that asks for name servers only': [11, [], 'reply'],
  'one that asks so with an address is malformed': [11, [[3, association()]], undefined],
  'a solicitation without identifier': [1, [[3, association()]], undefined],
  'a solicitation to a server': [1, [client, server], undefined],
  'a request to another server': [3, [client, [2, '00030001525400000000']], undefined],
  'a request to none': [3, [client, [3, association()]], undefined],
  'a relayed message': [12, [client], undefined],
  'what only servers send': [7, [client, server], undefined],
  'an identifier that is too long': [1, [[1, 'ab'.repeat(131)]], undefined],
  'an association that is too short': [1, [client, [3, '0000']], undefined],
  'an address that is too short': [
    1,
    [client, [3, `${association()}${option(5, 'fd')}`]],
    undefined,
  ],
  'an option that reaches past the end': [1, [client, [3, `${association()}0005ffff`]], undefined],
};
for (const [name, [type, options, expected]] of Object.entries(cases)) {
  test(`DHCPv6: ${name}`, () => {
    const decoded = decodeQuery6(query(type, options));
    assert.equal(shown(decoded && answer6(decoded, claim, network)), expected);
  });
}

test('a reply has all that a guest needs, in the right places', () => {
  const decoded = decodeQuery6(query(3, [client, server, [3, association(own)]]));
  const reply = decoded && answer6(decoded, claim, network);
  assert.ok(reply);
  const times = '12cc030012cc0300';
  const expected = query(7, [
    client,
    server,
    [3, `00000007096601800f099c00${option(5, `${hex(own)}${times}`)}`],
    [23, hex('fd12::1')],
    [24, '036c616e08696e7465726e616c00'],
  ]);
  assert.equal(encodeReply6(reply).toString('hex'), expected.toString('hex'));
});

test('V-126: a job with name servers of its own gets those of IPv6, and none of the network’s', () => {
  const dns = { servers: ['203.0.113.9', '2001:db8::53'], searches: ['example'] };
  const decoded = decodeQuery6(query(11, []));
  const reply = decoded && answer6(decoded, { ...claim, dns }, network);
  assert.deepEqual(reply?.nameservers.map(formatIpv6), ['2001:db8::53']);
  assert.deepEqual(reply?.searches, ['example']);
});

test('a message cut anywhere, and any bytes, are no reason to fail', () => {
  const whole = query(1, [client, [3, association(own, other)], [14, '']]);
  for (let to = 0; to < whole.length; to++) {
    const decoded = decodeQuery6(whole.subarray(0, to));
    if (decoded !== undefined) answer6(decoded, claim, network);
  }
  const typed = fc.tuple(
    fc.constantFrom(1, 3, 4, 5, 6, 8, 9, 11),
    fc.uint8Array({ maxLength: 80 }),
  );
  const message = typed.map(([type, rest]) => Uint8Array.of(type, 0, 0, 1, ...rest));
  fc.assert(
    fc.property(fc.oneof(message, fc.uint8Array({ maxLength: 1600 })), (bytes) => {
      const decoded = decodeQuery6(bytes);
      const reply = decoded && answer6(decoded, claim, network);
      if (reply !== undefined) assert.ok(encodeReply6(reply).length < 1800);
    }),
  );
});

test('a reply is bounded, however much is asked for', () => {
  const many = Array.from({ length: 20 }, () => [3, association()] as const);
  const addresses = Array.from({ length: 40 }, (_, at) => `fd12::${at + 100}`);
  for (const options of [many, [[3, association(...addresses)] as const]]) {
    const decoded = decodeQuery6(query(1, [client, ...options]));
    const reply = decoded && answer6(decoded, claim, network);
    assert.ok(reply !== undefined && encodeReply6(reply).length < 600);
  }
  assert.equal(decodeQuery6(Buffer.concat([query(1, [client]), Buffer.alloc(1500)])), undefined);
});

/** An advertisement's options by number, read independently of the encoder. */
function optionsOf(bytes: Buffer): Readonly<Record<number, string>> {
  const found: Record<number, string> = {};
  for (let at = 16; at < bytes.length; ) {
    const end = at + 8 * (bytes[at + 1] ?? assert.fail());
    found[bytes[at] ?? 0] = bytes.toString('hex', at + 2, end);
    at = end;
  }
  return found;
}

test('an advertisement announces router, prefix, MTU and name server, and that addresses are to be asked for', () => {
  const bytes = encodeAdvertisement(claim, network);
  assert.equal(bytes.toString('hex', 0, 16), '8600000040c0ffff0000000000000000');
  assert.deepEqual(optionsOf(bytes), {
    1: '525400aabbcc',
    // On the link (80), and no address is made from it.
    3: `4080ffffffffffffffff00000000${hex('fd12::')}`,
    5: '0000000005aa',
    25: `0000ffffffff${hex('fd12::1')}`,
    31: `0000ffffffff036c616e08696e7465726e616c00${'0'.repeat(4)}`,
  });
});

test('V-124: a NIC beside that of the default route gets no router, one with an MTU of its own that', () => {
  const beside = encodeAdvertisement({ ...claim, isDefaultRoute: false, mtu: 1400 }, network);
  assert.equal(beside.readUInt16BE(6), 0);
  assert.equal(optionsOf(beside)[5], '000000000578');
  // Less than any link of IPv6 may have is not announced.
  assert.equal(optionsOf(encodeAdvertisement({ ...claim, mtu: 1000 }, network))[5], undefined);
});

test('a guest is known by the link-local address of its MAC address, and by those that it chose', () => {
  const { ip6: _, ...without } = { ...claim, mac: '52:54:00:00:00:01', linkLocals: ['fe80::6'] };
  const chooser = { ...claim, mac: '52:54:00:00:00:02', linkLocals: ['fe80::7', 'fe80::8'] };
  const guests = byLinkLocal([claim, without, chooser]);
  assert.equal(guests.size, 4);
  assert.equal(guests.get(senderOf('fe80::5054:ff:fe01:203%virbr0')), claim);
  for (const text of ['fe80::5054:ff:fe00:2', 'fe80::7', 'fe80::8']) {
    assert.equal(guests.get(senderOf(`${text}%virbr0`)), chooser);
  }
  for (const text of ['::', 'fe80::1%virbr0', 'rubbish']) {
    assert.equal(guests.get(senderOf(text)), undefined);
  }
});
