import { type Logger, type Waiting, within } from '#host';
import {
  deleteFlows,
  type Flow,
  type FlowFilter,
  listFlows,
  matchesFlow,
  NetlinkSocket,
} from '#netlink';
import { isLoopback, type PortSpec, parseIpv4 } from '#spec';
import { readSysctl } from '../model/sysctl.ts';
import type { Claim } from '../store/claim.ts';

const udp = 17;
// A guest may have as many connections as the operator allows: they are ended in parts, and not for ever.
const most = 8192;
const withinMs = 3000;
// The kernel takes 9 ms to look through its table of usual size, whatever is in it; so many are read in 5 ms.
const few = 1024;

type Logged = Waiting & { readonly log: Logger };

interface Search {
  readonly filter: FlowFilter;
  /** Which of those that the filter finds are meant. */
  readonly isMeant: (flow: Flow) => boolean;
}

/** All connections there are, and which of them are meant. */
type Look = Omit<Search, 'filter'> & { readonly filter?: FlowFilter };

/**
 * Ends the connections of an address whose VM is gone. The kernel goes on translating a connection that it tracks,
 * whatever the rules say by then; one that is never idle would reach whoever gets the address next. Never fails.
 */
export async function endFlowsOf(ip: string, logged: Logged): Promise<void> {
  const sides = ['original', 'reply'] as const;
  const searches = sides.map((side) => ({ filter: { side, source: ip }, isMeant: () => true }));
  await forget(searches, logged);
}

/**
 * Ends UDP connections to the published ports of claims which lead elsewhere, because they are older than the rules that
 * publish them: only the first packet of a connection is looked up there. A TCP client opens another one by itself, and
 * what the host accepted before stays the host's. `local` are the host's addresses. Never fails.
 */
export async function endStaleFlows(
  claims: readonly Claim[],
  local: ReadonlySet<string>,
  logged: Logged,
): Promise<void> {
  const searches = claims.flatMap(({ ip, ports }) =>
    ports.map((port): Search => {
      const target = { protocol: udp, port: port.hostPort };
      const isMeant = (flow: Flow): boolean =>
        isAddressed(flow, port, local) && flow.reply.source !== ip;
      return { filter: { side: 'original', target }, isMeant };
    }),
  );
  if (searches.length > 0) await forget(searches, logged);
}

function isAddressed(
  { original: { destination } }: Flow,
  { hostIp }: PortSpec,
  local: ReadonlySet<string>,
): boolean {
  if (hostIp !== '') return destination === hostIp;
  return local.has(destination) || isLoopback(parseIpv4(destination) ?? 0);
}

async function forget(searches: readonly Search[], { log, signal }: Logged): Promise<void> {
  using waiting = within(withinMs, { signal });
  try {
    await using socket = await NetlinkSocket.open({ family: 'netfilter' });
    for (const look of searches.length > 1 && isQuiet() ? [all(searches)] : searches) {
      await forgetFound(socket, look, waiting);
    }
  } catch (error) {
    // A kernel without nf_conntrack_netlink, or too many of them: they end when they have been idle.
    log.warn('tracked connections were not all ended', { error });
  }
}

/** Whether the host tracks so few connections that it is better to be told of all of them, once. */
function isQuiet(): boolean {
  const tracked = readSysctl('net/netfilter/nf_conntrack_count');
  return tracked !== undefined && Number(tracked) <= few;
}

function all(searches: readonly Search[]): Look {
  const isMeant = (flow: Flow): boolean =>
    searches.some((search) => matchesFlow(flow, search.filter) && search.isMeant(flow));
  return { isMeant };
}

async function forgetFound(
  socket: NetlinkSocket,
  { filter, isMeant }: Look,
  waiting: Waiting,
): Promise<void> {
  for (;;) {
    const found = await listFlows(socket, { ...(filter && { filter }), maxFlows: most }, waiting);
    const meant = found.filter(isMeant);
    await deleteFlows(socket, meant, waiting);
    if (found.length < most || meant.length === 0) return;
  }
}
