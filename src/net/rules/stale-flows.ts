import { type Logger, within, withNetns } from '#host';
import {
  deleteFlows,
  type Flow,
  type FlowFilter,
  listFlows,
  matchesFlow,
  NetlinkSocket,
} from '#netlink';
import { isLoopback, type PortSpec, parseIpv4, protocolsOf, type Waiting } from '#spec';
import { readSysctl } from '../model/sysctl.ts';
import type { Claim } from '../store/claim.ts';

const udp = 17;
// A guest may have as many connections as the operator allows: they are ended in batches, for a limited time.
const maxFlows = 8192;
const withinMs = 3000;
// Each filtered listing takes the kernel 9 ms at the default table size, however few entries match; this many are read
// unfiltered in 5 ms, once for all searches.
const maxQuiet = 1024;

type Logged = Waiting & {
  readonly log: Logger;
  /** Path of the network namespace that tracks them: this process's own when left out. */
  readonly netns?: string;
};

export interface Search {
  readonly filter: FlowFilter;
  /** Which of those that the filter finds are to be ended. */
  readonly isMeant: (flow: Flow) => boolean;
}

/** A search that may be without a filter, over all connections. */
type AnySearch = Omit<Search, 'filter'> & { readonly filter?: FlowFilter };

/**
 * Ends the connections of addresses whose VM is gone. The kernel continues to translate a connection that it
 * tracks, independently of the rules; one that is never idle would reach the next VM with the address. Never fails.
 */
export async function endFlowsOf(addresses: readonly string[], logged: Logged): Promise<void> {
  const sides = ['original', 'reply'] as const;
  const searches = addresses.flatMap((source) =>
    sides.map((side) => ({ filter: { side, source }, isMeant: () => true })),
  );
  await end(searches, logged);
}

/**
 * Ends UDP connections to published ports of the claims that lead elsewhere, because they are older than the rules that
 * publish the ports: rules apply to the first packet of a connection. A TCP client opens a new connection by itself, and
 * one that the host accepted before stays with the host. `local` are the host's addresses. Never fails.
 */
export async function endStaleFlows(
  claims: readonly Pick<Claim, 'ip' | 'ip6' | 'ports'>[],
  local: ReadonlySet<string>,
  logged: Logged,
): Promise<void> {
  const searches = claims.flatMap(({ ip, ip6, ports }) =>
    ports
      .filter((port) => protocolsOf(port).includes('udp'))
      .flatMap((port) =>
        [ip, ip6]
          .filter((own) => own !== undefined)
          .map((own): Search => {
            const target = { protocol: udp, port: port.hostPort };
            const isMeant = (flow: Flow): boolean =>
              isAddressed(flow, port, local) && !isRightful(flow, own);
            const isIpv6 = own.includes(':');
            return { filter: { side: 'original', isIpv6, target }, isMeant };
          }),
      ),
  );
  if (searches.length > 0) await end(searches, logged);
}

/**
 * Whether the rules lead it there: to the guest, or to another port of the host itself, as a guest's questions to the name
 * server of its network, which are no connections to the published port.
 */
function isRightful({ original, reply }: Flow, own: string): boolean {
  const isRedirected = reply.sourcePort !== original.destinationPort;
  return reply.source === own || (reply.source === original.destination && isRedirected);
}

function isAddressed(
  { original: { destination } }: Flow,
  { hostIp }: PortSpec,
  local: ReadonlySet<string>,
): boolean {
  if (hostIp !== '') return destination === hostIp;
  return local.has(destination) || destination === '::1' || isLoopback(parseIpv4(destination) ?? 0);
}

async function end(searches: readonly Search[], { log, netns, signal }: Logged): Promise<void> {
  const tracked = netns === undefined ? countFlows() : withNetns(netns, countFlows);
  // A listing takes the kernel 9 ms even then, and the event loop waits for it.
  if (tracked === 0) return;
  using waiting = within(withinMs, { signal });
  try {
    const there = netns === undefined ? {} : { netns };
    await using socket = await NetlinkSocket.open({ ...there, family: 'netfilter' });
    for (const search of searches.length > 1 && tracked <= maxQuiet
      ? [anyOf(searches)]
      : searches) {
      await endFound(socket, search, waiting);
    }
  } catch (error) {
    // A kernel without nf_conntrack_netlink, or too many connections: the rest ends when idle.
    log.warn('tracked connections were not all ended', { error });
  }
}

/** How many connections are tracked in the network namespace; infinity where the kernel does not report it. */
function countFlows(): number {
  return Number(readSysctl('net/netfilter/nf_conntrack_count') ?? Number.POSITIVE_INFINITY);
}

/** One search over all connections, each of which is compared with searches for its own ports alone. */
export function anyOf(searches: readonly Search[]): AnySearch {
  const byPort = Map.groupBy(searches, ({ filter }) => filter.target?.port);
  const isMeant = (flow: Flow): boolean =>
    [...new Set([undefined, flow.original.destinationPort, flow.reply.destinationPort])]
      .flatMap((port) => byPort.get(port) ?? [])
      .some((search) => matchesFlow(flow, search.filter) && search.isMeant(flow));
  return { isMeant };
}

async function endFound(
  socket: NetlinkSocket,
  { filter, isMeant }: AnySearch,
  waiting: Waiting,
): Promise<void> {
  for (;;) {
    const found = await listFlows(socket, { ...(filter && { filter }), maxFlows }, waiting);
    const meant = found.filter(isMeant);
    await deleteFlows(socket, meant, waiting);
    if (found.length < maxFlows || meant.length === 0) return;
  }
}
