import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode, type Packet, type RecordType } from 'dns-packet';
import fc from 'fast-check';
import { Limits } from '../../src/net/dns/limits.ts';
import {
  asReplyTo,
  type DnsQuestion,
  decodeQuestion,
  encodeFailure,
  encodeForwarded,
  encodeReply,
  fitUdp,
  isReplyTo,
  rcode,
} from '../../src/net/dns/message.ts';
import { answerFrom, makeZone } from '../../src/net/dns/zone.ts';
import type { Claim } from '../../src/net/store/claim.ts';

const network = {
  domain: 'virbr0.internal',
  address: '192.168.122.1',
  prefix: 24,
  address6: 'fd12::1/64',
};
const claimOf = (hostname: string, last: number): Claim => ({
  ip: `192.168.122.${last}`,
  vm: `vm${last}`,
  index: 0,
  mac: '52:54:00:00:00:01',
  tap: 'qmp00000001',
  hostname,
  ports: [],
});
const zone = makeZone(network, [
  claimOf('web', 9),
  claimOf('DB', 10),
  claimOf('twin', 11),
  claimOf('twin', 12),
  claimOf('wpad', 13),
  claimOf('localhost', 14),
  { ...claimOf('six', 15), ip6: 'fd12::f' },
]);

const query = (name: string, type: RecordType = 'A', more: Packet = {}): Buffer =>
  encode({ type: 'query', id: 2, flags: 0x0100, questions: [{ name, type }], ...more });

function question(message: Buffer): DnsQuestion {
  const received = decodeQuestion(message);
  assert.equal(received.kind, 'question');
  return received.kind === 'question' ? received.question : assert.fail();
}

/** The name of an address of a prefix fdXX::/64. */
function reverse6(host: string, second = '12'): string {
  const groups = [`fd${second}`, '0', '0', '0', ...host.split(':')];
  const digits = groups.map((group) => group.padStart(4, '0')).join('');
  return `${[...digits].toReversed().join('.')}.ip6.arpa`;
}

/** The answer as text: its code, and each record's data. */
function ask(name: string, type: RecordType = 'A'): string {
  const asked = question(query(name, type));
  const own = answerFrom(zone, asked);
  if (own === undefined) return 'asked elsewhere';
  const reply = decode(encodeReply(asked, own));
  assert.equal(reply.id, 2);
  assert.deepEqual(
    reply.questions?.map((each) => each.name),
    [name],
  );
  const data = reply.answers?.map((each) => ('data' in each ? String(each.data) : '')) ?? [];
  return [codeOf(reply), ...data].join(' ');
}

function codeOf(packet: Packet): string {
  return 'rcode' in packet ? String(packet.rcode) : '';
}

const cases = {
  'a guest by its full name': [['web.virbr0.internal'], 'NOERROR 192.168.122.9'],
  'a guest by its host name': [['web'], 'NOERROR 192.168.122.9'],
  'letters of either case': [['dB.Virbr0.INTERNAL'], 'NOERROR 192.168.122.10'],
  'two guests of one name': [['twin'], 'NOERROR 192.168.122.11 192.168.122.12'],
  'no such guest': [['mail.virbr0.internal'], 'NXDOMAIN'],
  'a name below a guest': [['x.web.virbr0.internal'], 'NXDOMAIN'],
  'the domain itself': [['virbr0.internal'], 'NOERROR'],
  'no address of IPv6': [['web.virbr0.internal', 'AAAA'], 'NOERROR'],
  'an address of IPv6': [['six.virbr0.internal', 'AAAA'], 'NOERROR fd12::f'],
  'no mail server': [['web', 'MX'], 'NOERROR'],
  'an address': [['9.122.168.192.in-addr.arpa', 'PTR'], 'NOERROR web.virbr0.internal'],
  'an address without a guest': [['77.122.168.192.in-addr.arpa', 'PTR'], 'NXDOMAIN'],
  'an address of another network': [['9.123.168.192.in-addr.arpa', 'PTR'], 'asked elsewhere'],
  'an address of IPv6 backwards': [[reverse6('0:0:0:f'), 'PTR'], 'NOERROR six.virbr0.internal'],
  'one of IPv6 without a guest': [[reverse6('0:0:0:e'), 'PTR'], 'NXDOMAIN'],
  'one of IPv6 that is no name': [[reverse6('0:0:0:f'), 'AAAA'], 'NOERROR'],
  'one of another network of IPv6': [[reverse6('1:0:0:f', '13'), 'PTR'], 'asked elsewhere'],
  'half an address of IPv6': [['0.0.2.1.d.f.ip6.arpa', 'PTR'], 'asked elsewhere'],
  'an address of IPv6 in other digits': [
    [`g${reverse6('0:0:0:f').slice(1)}`, 'PTR'],
    'asked elsewhere',
  ],
  'half an address': [['122.168.192.in-addr.arpa', 'NS'], 'asked elsewhere'],
  'a name of the Internet': [['example.org'], 'asked elsewhere'],
  'a name that only ends alike': [['xvirbr0.internal'], 'asked elsewhere'],
  'the root': [['.', 'NS'], 'asked elsewhere'],
  'a host name that stands for a proxy': [['wpad'], 'asked elsewhere'],
  'a host name that stands for the asker': [['localhost'], 'asked elsewhere'],
} as const satisfies Record<string, readonly [readonly [string, RecordType?], string]>;
for (const [name, [[asked, type], expected]] of Object.entries(cases)) {
  test(`V-110 V-144: the zone of a network: ${name}`, () => {
    assert.equal(ask(asked, type), expected);
  });
}

test('what is not there may be remembered for seconds only', () => {
  const asked = question(query('mail.virbr0.internal'));
  const own = answerFrom(zone, asked);
  const [soa] = decode(encodeReply(asked, own ?? assert.fail())).authorities ?? [];
  assert.ok(soa?.type === 'SOA');
  assert.deepEqual([soa.name, soa.ttl, soa.data.minimum], ['virbr0.internal', 5, 5]);
});

const refused: Readonly<Record<string, readonly [Buffer, string]>> = {
  'a reply': [encode({ type: 'response', id: 2, questions: [] }), 'ignored'],
  'half a header': [query('web').subarray(0, 11), 'ignored'],
  'no question': [encode({ type: 'query', id: 2, questions: [] }), 'FORMERR'],
  'two questions': [
    query('web', 'A', {
      questions: [
        { name: 'a', type: 'A' },
        { name: 'b', type: 'A' },
      ],
    }),
    'FORMERR',
  ],
  'a question and an answer': [
    query('web', 'A', { answers: [{ name: 'a', type: 'A', data: '192.0.2.1' }] }),
    'FORMERR',
  ],
  'another record than that of EDNS': [
    query('web', 'A', { additionals: [{ name: 'a', type: 'A', data: '192.0.2.1' }] }),
    'FORMERR',
  ],
  'an update': [query('web', 'A', { flags: 5 << 11 }), 'NOTIMP'],
  'a zone transfer': [query('virbr0.internal', 'AXFR'), 'REFUSED'],
  'another class': [
    query('', 'TXT', { questions: [{ name: 'version.bind', type: 'TXT', class: 'CH' }] }),
    'REFUSED',
  ],
  'a dot within a label': [withName(Buffer.from('\x03a.b\x00', 'latin1')), 'FORMERR'],
  'a label that is no text': [withName(Buffer.from('\x02\xff\xfe\x00', 'latin1')), 'FORMERR'],
  'a pointer into the header': [withName(Buffer.from('\xc0\x00', 'latin1')), 'FORMERR'],
  'a pointer to itself': [withName(Buffer.from('\xc0\x0c', 'latin1')), 'FORMERR'],
  'a kind of label that is not defined': [withName(Buffer.from('\x80a\x00', 'latin1')), 'FORMERR'],
};

/** A question with a name as these bytes. */
function withName(bytes: Buffer): Buffer {
  const header = query('web').subarray(0, 12);
  return Buffer.concat([header, bytes, Buffer.of(0, 1, 0, 1)]);
}

for (const [name, [message, expected]] of Object.entries(refused)) {
  test(`DNS: ${name} is looked into no further`, () => {
    const received = decodeQuestion(message);
    const outcome = received.kind === 'invalid' ? codeOf(decode(received.reply)) : received.kind;
    assert.equal(outcome, expected);
  });
}

test('a question of every type reaches another server as it was asked', () => {
  for (let type = 0; type <= 0xffff; type++) {
    if (type === 251 || type === 252) continue;
    const message = query('example.org');
    message.writeUInt16BE(type, message.length - 4);
    const received = decodeQuestion(message);
    assert.equal(received.kind, 'question', `type ${type}`);
    if (received.kind !== 'question') return;
    const forwarded = encodeForwarded(received.question, 2);
    assert.ok(forwarded.equals(message), `type ${type}`);
  }
});

const edns = (udpPayloadSize: number, flags = 0): Packet => ({
  additionals: [
    {
      type: 'OPT',
      name: '.',
      udpPayloadSize,
      extendedRcode: 0,
      ednsVersion: 0,
      flags,
      flag_do: false,
      options: [{ code: 10, data: Buffer.alloc(8) } as never],
    },
  ],
});

test('another server gets the question without what a guest added to it', () => {
  const asked = question(query('example.org', 'A', edns(4096, 0x8000)));
  const forwarded = decode(encodeForwarded(asked, 77));
  const [option, ...others] = forwarded.additionals ?? [];
  assert.ok(option?.type === 'OPT' && others.length === 0);
  assert.deepEqual([option.udpPayloadSize, option.flag_do, option.options], [1232, true, []]);
  assert.equal(forwarded.id, 77);
});

test('a reply fits what the guest can receive, or reports that there is more', () => {
  const large = encode({
    type: 'response',
    id: 9,
    questions: [{ name: 'example.org', type: 'TXT' }],
    answers: [...Array(9).keys()].map((each) => ({
      name: 'example.org',
      type: 'TXT',
      data: `${each}`.repeat(90),
    })),
  });
  for (const [message, limit] of [
    [query('example.org', 'TXT'), 512],
    [query('example.org', 'TXT', edns(100)), 512],
    [query('example.org', 'TXT', edns(1000)), 1000],
    [query('example.org', 'TXT', edns(0xffff)), 1232],
  ] as const) {
    const asked = question(message);
    assert.equal(asked.replyBytes, limit);
    const sent = fitUdp(asked, asReplyTo(asked, large));
    const reply = decode(sent);
    const isCut = large.length > limit;
    assert.equal(sent.length <= limit, true);
    assert.equal('flag_tc' in reply && reply.flag_tc, isCut);
    assert.equal(reply.answers?.length, isCut ? 0 : 9);
    assert.equal(reply.id, 2);
  }
});

test('only the reply to the question is taken for it', () => {
  const asked = question(query('example.org'));
  const replied = encode({
    type: 'response',
    id: 7,
    questions: [{ name: 'example.org', type: 'A' }],
  });
  assert.ok(isReplyTo(replied, asked, 7));
  assert.ok(!isReplyTo(replied, asked, 8));
  assert.ok(!isReplyTo(encodeForwarded(asked, 7), asked, 7));
  assert.ok(!isReplyTo(encode({ type: 'response', id: 7, questions: [] }), asked, 7));
  for (const name of ['example.com', 'Example.org']) {
    const other = encode({ type: 'response', id: 7, questions: [{ name, type: 'A' }] });
    assert.ok(!isReplyTo(other, asked, 7), name);
  }
  for (let end = 0; end < replied.length; end++) {
    assert.ok(!isReplyTo(replied.subarray(0, end), asked, 7));
  }
});

test('DNS: a question that is cut or damaged anywhere is refused or read, and never more', () => {
  const whole = query('web.virbr0.internal', 'A', edns(1232));
  for (let end = 0; end < whole.length; end++) decodeQuestion(whole.subarray(0, end));
  const bytes = fc.uint8Array({ maxLength: 1400 });
  const damaged = fc
    .array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 6 })
    .map((changes) => {
      const copy = Buffer.from(whole);
      for (const [at, value] of changes) copy[at] = value;
      return copy;
    });
  // As much like a question as it can be without being one.
  const alike = bytes.map((rest) => Buffer.concat([whole.subarray(0, 12), rest]));
  fc.assert(
    fc.property(fc.oneof(bytes, damaged, alike), (message) => {
      const received = decodeQuestion(message);
      if (received.kind === 'invalid') assert.equal(received.reply.length, 12);
      if (received.kind !== 'question') return;
      const { question: asked } = received;
      const own = answerFrom(zone, asked);
      const reply = own ? encodeReply(asked, own) : encodeFailure(asked, rcode.failed);
      assert.ok(isReplyTo(reply, asked, asked.id));
      assert.ok(reply.length <= 600);
      assert.equal(question(encodeForwarded(asked, 1)).name, asked.name);
    }),
    { numRuns: 20_000 },
  );
});

test('a guest can use up its own share only, and some together not the first of another', () => {
  const limits = new Limits({ each: 2, all: 3 });
  const first = limits.take('a');
  assert.ok(first && limits.take('a'));
  assert.equal(limits.take('a'), undefined);
  assert.ok(limits.take('b'));
  assert.equal(limits.take('b'), undefined);
  const other = limits.take('c');
  assert.ok(other);
  assert.equal(limits.take('c'), undefined);
  for (let twice = 0; twice < 2; twice++) first[Symbol.dispose]();
  assert.equal(limits.take('b'), undefined, 'all is in use');
  other[Symbol.dispose]();
  assert.ok(limits.take('b'));
});
