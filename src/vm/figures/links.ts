import { readFileSync } from 'node:fs';
import { withNetns } from '#host';
import type { NicFigures, NicTraffic } from '../domain-figures.ts';
import type { AdoptedNic } from '../store/device-record.ts';

/** One reading serves all VMs that are sampled at the same time. */
const sharedMs = 100;

export interface LinkCounters {
  readonly received: NicTraffic;
  readonly sent: NicTraffic;
}

type Links = ReadonlyMap<string, LinkCounters>;

let last: { readonly atMs: number; readonly links: Links } | undefined;

/** The traffic of a VM's interfaces that have a link of the host's, or of the namespace of an allocation. */
export function nicFigures(nics: readonly AdoptedNic[]): readonly NicFigures[] {
  return nics.flatMap((nic) => {
    const links = nic.kind === 'group-nic' ? linksIn(nic.netns) : hostLinks();
    const isMacvtap = nic.kind === 'macvtap-nic';
    const counters = links?.get(isMacvtap ? nic.link : nic.tap);
    if (counters === undefined) return [];
    // What the host receives from a tap the guest has sent; a macvtap is the guest's own.
    const { received, sent } = counters;
    return [{ name: nic.id, ...(isMacvtap ? counters : { received: sent, sent: received }) }];
  });
}

function hostLinks(): Links {
  const nowMs = performance.now();
  if (last === undefined || nowMs - last.atMs > sharedMs)
    last = { atMs: nowMs, links: readLinks() };
  return last.links;
}

/** Undefined where the namespace is gone. */
function linksIn(netns: string): Links | undefined {
  try {
    return withNetns(netns, readLinks);
  } catch {
    return undefined;
  }
}

function readLinks(): Links {
  return parseLinks(readFileSync('/proc/thread-self/net/dev', 'latin1'));
}

/** Decodes /proc/net/dev: two lines of headings, then `name:` with eight figures of each direction. */
export function parseLinks(text: string): ReadonlyMap<string, LinkCounters> {
  const links = new Map<string, LinkCounters>();
  for (const line of text.split('\n').slice(2)) {
    const colon = line.lastIndexOf(':');
    if (colon < 0) continue;
    const figures = line
      .slice(colon + 1)
      .trim()
      .split(/\s+/)
      .map(Number);
    links.set(line.slice(0, colon).trim(), {
      received: traffic(figures.slice(0, 4)),
      sent: traffic(figures.slice(8, 12)),
    });
  }
  return links;
}

function traffic([bytes = 0, packets = 0, errors = 0, drops = 0]: readonly number[]): NicTraffic {
  return { bytes, packets, errors, drops };
}
