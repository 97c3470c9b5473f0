/** What a guest may try over IPv6, and what it has to send, for tests of the rules. */
import {
  advertisement,
  allNodes,
  behind,
  type Content,
  fragment,
  icmpMessage,
  macOption,
  routerAdvertisement,
  solicitation,
  syn,
  udp,
} from './frames6.ts';

/** The addresses of one end of a link. */
export interface Ends6 {
  readonly mac: string;
  readonly ip: string;
  readonly linkLocal: string;
}

/** From whom to whom a content is sent; the guest itself to its peer when left out. */
export interface Shot {
  readonly content: Content;
  readonly from?: string;
  readonly to?: string;
}

export const hello = udp([6767, 7777]);
/** A server's answer, longer than one fragment. */
const dhcpAnswer = udp([547, 546], Buffer.alloc(40, 2));

/** Each is to reach no neighbour, and does where no rule is. */
export function attacksOf(
  web: Ends6,
  peer: Ends6,
  foreign: readonly string[],
): Readonly<Record<string, readonly Shot[]>> {
  const ra = routerAdvertisement();
  const claim = advertisement(foreign[0] ?? '', macOption('target', web.mac));
  const hidden = (inner: Content): readonly Shot[] => [
    ...(['hops', 'routing', 'options'] as const).map((kind) => ({ content: behind(kind, inner) })),
    { content: behind('hops', behind('options', inner)) },
    { content: behind('hops', fragment(inner, 0)) },
    { content: fragment(inner, 0) },
    { content: fragment(inner, 0, 8) },
    { content: fragment(behind('options', inner), 0, 8) },
    { content: fragment(behind('options', inner), 0, 16) },
    { content: fragment(fragment(inner, 0), 0, 16) },
  ];
  const everywhere = (shots: readonly Shot[]): readonly Shot[] =>
    shots.flatMap((shot) => [shot, { ...shot, from: web.linkLocal }, { ...shot, to: allNodes }]);
  return {
    'UDP from an address of others': foreign.map((from) => ({ content: hello, from })),
    'TCP from an address of others': foreign.map((from) => ({ content: syn([6767, 7777]), from })),
    'an echo from an address of others': foreign.map((from) => ({
      content: icmpMessage(128),
      from,
    })),
    'something from no address': [
      { content: hello, from: '::' },
      { content: syn([1, 2]), from: '::' },
    ],
    'a question with an address of others': foreign.map((from) => ({
      content: solicitation(peer.ip, macOption('source', web.mac)),
      from,
    })),
    'a question with the MAC address of others': [
      { content: solicitation(peer.ip, macOption('source', peer.mac)) },
      { content: solicitation(peer.ip, macOption('source', peer.mac)), from: web.linkLocal },
    ],
    'a question with several options': [
      {
        content: solicitation(
          peer.ip,
          Buffer.concat([macOption('source', web.mac), macOption('source', peer.mac)]),
        ),
      },
    ],
    'a probe for an address of others': foreign.map((target) => ({
      content: solicitation(target),
      from: '::',
      to: allNodes,
    })),
    'an answer for an address of others': everywhere(
      foreign.flatMap((target) => [
        { content: advertisement(target, macOption('target', web.mac)) },
        { content: advertisement(target) },
      ]),
    ),
    'an answer with the MAC address of others': everywhere([
      { content: advertisement(web.ip, macOption('target', peer.mac)) },
    ]),
    'a router advertisement': everywhere([{ content: ra }]),
    'a redirect': everywhere([{ content: icmpMessage(137, Buffer.alloc(36)) }]),
    "a router's question for groups": everywhere([{ content: icmpMessage(130, Buffer.alloc(20)) }]),
    'other messages of routers': everywhere(
      [141, 142, 151, 152, 153].map((type) => ({ content: icmpMessage(type, Buffer.alloc(20)) })),
    ),
    'an answer of a DHCP server': everywhere([
      { content: dhcpAnswer },
      { content: udp([6767, 546]) },
      { content: udp([547, 7777]) },
      { content: udp([546, 546]) },
    ]),
    'a router advertisement behind other headers': hidden(ra),
    'an answer for an address of others behind other headers': hidden(claim),
    'an answer of a DHCP server behind other headers': hidden(dhcpAnswer),
    'a connection behind other headers': hidden(hello).slice(0, 5),
  };
}

/** Each is to pass. */
export function neededBy(
  web: Ends6,
  peer: Ends6,
  gateway: string,
): Readonly<Record<string, readonly Shot[]>> {
  const report = behind('hops', icmpMessage(143, Buffer.alloc(24)));
  const long = udp([6767, 7777], Buffer.alloc(64, 1));
  const nonce = Buffer.from('0e01010203040506', 'hex');
  const own = macOption('source', web.mac);
  return {
    'UDP and TCP': [{ content: hello }, { content: syn([6767, 7777]) }],
    'UDP from its link-local address': [
      { content: hello, from: web.linkLocal, to: peer.linkLocal },
    ],
    'an echo': [{ content: icmpMessage(128) }, { content: icmpMessage(129) }],
    errors: [1, 2, 3, 4].map((type) => ({ content: icmpMessage(type, Buffer.alloc(52)) })),
    questions: [
      { content: solicitation(peer.ip, own) },
      { content: solicitation(gateway, own), from: web.linkLocal, to: allNodes },
      { content: solicitation(peer.ip) },
    ],
    'probes for its own addresses': [web.ip, web.linkLocal].flatMap((target) => [
      { content: solicitation(target), from: '::', to: allNodes },
      { content: solicitation(target, nonce), from: '::', to: allNodes },
    ]),
    'answers for its own addresses': [web.ip, web.linkLocal].flatMap((target) => [
      { content: advertisement(target, macOption('target', web.mac)) },
      { content: advertisement(target), to: allNodes },
    ]),
    'reports of its groups': [
      { content: report, from: web.linkLocal, to: allNodes },
      { content: report, from: '::', to: allNodes },
    ],
    'a datagram in fragments': [
      { content: fragment(long, 0, 32) },
      { content: fragment(long, 32) },
    ],
  };
}
