import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpv4 } from '#spec';
import { answer } from '../../src/net/dhcp/answer.ts';
import { type DhcpQuery, decodeQuery, encodeReply } from '../../src/net/dhcp/message.ts';

const claim = {
  ip: '192.168.122.87',
  vm: 'web',
  index: 0,
  mac: '52:54:00:01:02:03',
  tap: 'qmp00000000',
  hostname: 'web-1',
  ports: [],
};
const network = {
  address: '192.168.122.1',
  prefix: 24,
  nameservers: ['192.0.2.53', '192.0.2.54'],
  searches: [],
  mtu: 1450,
};
const discover: DhcpQuery = {
  type: 'discover',
  transaction: 0xdeadbeef,
  broadcast: false,
  clientAddress: '0.0.0.0',
  relayAddress: '0.0.0.0',
  mac: claim.mac,
  requestedAddress: undefined,
  serverId: undefined,
  clientId: undefined,
};

test('V-124: a NIC beside that of the default route gets no gateway', () => {
  assert.equal(answer(discover, claim, network)?.lease?.router, '192.168.122.1');
  const beside = { ...claim, isDefaultRoute: false };
  assert.equal(answer(discover, beside, network)?.lease?.router, undefined);
});

test('V-124: the MTU of a NIC is that of its job, else the network’s', () => {
  assert.equal(answer(discover, claim, network)?.lease?.mtu, 1450);
  assert.equal(answer(discover, { ...claim, mtu: 1400 }, network)?.lease?.mtu, 1400);
});

/** What a client would put on the wire. */
function encodeQuery(query: DhcpQuery): Buffer {
  const types = ['discover', 'offer', 'request', 'decline', 'ack', 'nak', 'release', 'inform'];
  const octets = (text: string): number[] => text.split('.').map(Number);
  const fixed = Buffer.alloc(240);
  fixed.set([1, 1, 6], 0);
  fixed.writeUInt32BE(query.transaction, 4);
  fixed.writeUInt16BE(query.broadcast ? 0x8000 : 0, 10);
  fixed.set(octets(query.clientAddress), 12);
  fixed.set(octets(query.relayAddress), 24);
  fixed.set(Buffer.from(query.mac.replaceAll(':', ''), 'hex'), 28);
  fixed.writeUInt32BE(0x63825363, 236);
  const options = [53, 1, types.indexOf(query.type) + 1];
  if (query.requestedAddress) options.push(50, 4, ...octets(query.requestedAddress));
  if (query.serverId) options.push(54, 4, ...octets(query.serverId));
  if (query.clientId) options.push(61, query.clientId.length, ...query.clientId);
  return Buffer.concat([fixed, Buffer.from([...options, 0, 0, 255])]);
}

/** A reply's options by number, read independently of the encoder. */
function optionsOf(reply: Buffer): Readonly<Record<number, string>> {
  const found: Record<number, string> = {};
  for (let at = 240; reply[at] !== 255; ) {
    const length = reply[at + 1] ?? 0;
    found[reply[at] ?? 0] = reply.toString('hex', at + 2, at + 2 + length);
    at += 2 + length;
  }
  return found;
}

test('an offer has everything a guest needs, in the right places', () => {
  const reply = answer({ ...discover, clientId: Buffer.of(1, 2, 3) }, claim, network);
  assert.ok(reply);
  const bytes = encodeReply(reply);
  assert.equal(bytes.length >= 300, true);
  assert.deepEqual([...bytes.subarray(0, 4)], [2, 1, 6, 0]);
  assert.equal(bytes.readUInt32BE(4), 0xdeadbeef);
  assert.equal(bytes.subarray(16, 20).join('.'), claim.ip);
  assert.equal(bytes.toString('hex', 28, 34), '525400010203');
  assert.deepEqual(optionsOf(bytes), {
    1: 'ffffff00',
    3: 'c0a87a01',
    6: 'c0000235c0000236',
    12: Buffer.from('web-1').toString('hex'),
    26: '05aa',
    28: 'c0a87aff',
    51: '12cc0300',
    53: '02',
    54: 'c0a87a01',
    61: '010203',
  });
});

const other = '192.168.122.9';
const cases: Readonly<Record<string, readonly [Partial<DhcpQuery>, string | undefined]>> = {
  'a discovery is offered the claimed address': [{}, 'offer 192.168.122.87'],
  'a discovery that wishes for another one as well': [
    { requestedAddress: other },
    'offer 192.168.122.87',
  ],
  'a request for the claimed address is granted': [
    { type: 'request', requestedAddress: claim.ip, serverId: network.address },
    'ack 192.168.122.87',
  ],
  'after a reboot, without naming a server, too': [
    { type: 'request', requestedAddress: claim.ip },
    'ack 192.168.122.87',
  ],
  'a renewal is granted': [{ type: 'request', clientAddress: claim.ip }, 'ack 192.168.122.87'],
  'a request for another address is refused': [
    { type: 'request', requestedAddress: other },
    'nak 0.0.0.0',
  ],
  'a renewal of another address is refused': [
    { type: 'request', clientAddress: other },
    'nak 0.0.0.0',
  ],
  'a request to another server is not ours': [
    { type: 'request', requestedAddress: other, serverId: '192.168.122.2' },
    undefined,
  ],
  'an inform is answered without an address': [
    { type: 'inform', clientAddress: claim.ip },
    'ack 0.0.0.0',
  ],
  'an inform from another address is not answered': [
    { type: 'inform', clientAddress: other },
    undefined,
  ],
  'a request for the claimed address from another one is refused': [
    { type: 'request', clientAddress: other, requestedAddress: claim.ip },
    'nak 0.0.0.0',
  ],
  'a discovery from another address is not answered': [{ clientAddress: other }, undefined],
  'a release changes nothing': [{ type: 'release', clientAddress: claim.ip }, undefined],
  'a decline neither': [{ type: 'decline', requestedAddress: claim.ip }, undefined],
  'what only servers send is ignored': [{ type: 'offer' }, undefined],
  'a relayed question is not ours': [{ relayAddress: '10.0.0.1' }, undefined],
};
for (const [name, [change, expected]] of Object.entries(cases)) {
  test(`DHCP: ${name}`, () => {
    const query = decodeQuery(encodeQuery({ ...discover, ...change }));
    assert.ok(query);
    const reply = answer(query, claim, network);
    assert.equal(reply && `${reply.type} ${reply.yourAddress}`, expected);
    if (reply) assert.ok(encodeReply(reply).length >= 300);
    const hasLease = reply?.lease?.leaseSeconds !== undefined;
    assert.equal(hasLease, reply !== undefined && reply.yourAddress === claim.ip);
  });
}

const own = { servers: ['203.0.113.9', 'fd00::9'], searches: ['lan.example', 'a.b.', 'no good'] };

test('V-126: the name servers and search domains of a job replace those of the network, in DHCP too', () => {
  const reply = answer(discover, { ...claim, dns: own }, network);
  assert.ok(reply);
  const options = optionsOf(encodeReply(reply));
  assert.equal(options[6], 'cb007109');
  assert.equal(
    Buffer.from(options[119] ?? '', 'hex').toString('latin1'),
    '\x03lan\x07example\x00\x01a\x01b\x00',
  );
});

test('V-126: a dns block with search domains only, or IPv6 servers only, leaves the network its servers', () => {
  for (const dns of [
    { servers: [], searches: ['lan.example'] },
    { servers: ['fd00::9'], searches: [] },
  ]) {
    assert.deepEqual(
      answer(discover, { ...claim, dns }, network)?.lease?.nameservers,
      network.nameservers,
    );
  }
});

test('search domains that do not fit one option, or are no domain names, are left out', () => {
  const searches = [
    ...Array.from({ length: 40 }, (_, index) => `domain-${index}.example`),
    '',
    `${'x'.repeat(64)}.example`,
    'é.example',
  ];
  const reply = answer(discover, { ...claim, dns: { servers: [], searches } }, network);
  assert.ok(reply);
  const bytes = Buffer.from(optionsOf(encodeReply(reply))[119] ?? '', 'hex');
  assert.ok(bytes.length > 200 && bytes.length < 256);
  assert.equal(bytes.at(-1), 0);
});

const folder = join(import.meta.dirname, 'dhcp-malformed');
for (const file of readdirSync(folder)) {
  test(`DHCP: malformed question: ${file}`, () => {
    const bytes = Buffer.from(readFileSync(join(folder, file), 'utf8').replace(/\s/g, ''), 'hex');
    assert.equal(decodeQuery(bytes), undefined);
  });
}

test('DHCP: a question cut at any byte is refused or understood, never an exception', () => {
  const whole = encodeQuery({ ...discover, clientId: Buffer.from('identifier') });
  for (let length = 0; length < whole.length; length++) {
    const query = decodeQuery(whole.subarray(0, length));
    if (length < 243) assert.equal(query, undefined, `cut at ${length}`);
    else if (query !== undefined) assert.equal(query.type, 'discover');
  }
});

const address = fc.nat({ max: 0xffffffff }).map(formatIpv4);
const queries: fc.Arbitrary<DhcpQuery> = fc.record({
  type: fc.constantFrom('discover', 'request', 'decline', 'release', 'inform'),
  transaction: fc.nat({ max: 0xffffffff }),
  broadcast: fc.boolean(),
  clientAddress: address,
  relayAddress: address,
  mac: fc.uint8Array({ minLength: 6, maxLength: 6 }).map((bytes) =>
    Buffer.from(bytes)
      .toString('hex')
      .replace(/..(?=.)/g, '$&:'),
  ),
  requestedAddress: fc.option(address, { nil: undefined }),
  serverId: fc.option(address, { nil: undefined }),
  clientId: fc.option(
    fc.uint8Array({ minLength: 1, maxLength: 255 }).map((bytes) => Buffer.from(bytes)),
    { nil: undefined },
  ),
});

test('DHCP: the decoder reads what a client sends', () => {
  fc.assert(
    fc.property(queries, (query) =>
      assert.deepEqual(decodeQuery(encodeQuery(query)), { ...query }),
    ),
  );
});

test('DHCP: bytes at random, behind a header that passes, never throw', () => {
  const header = encodeQuery(discover).subarray(0, 240);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (tail, bare) => {
      const query = decodeQuery(bare ? tail : Buffer.concat([header, tail]));
      const reply = query && answer(query, claim, network);
      if (reply) encodeReply(reply);
    }),
    { numRuns: 2000 },
  );
});
