import { readFileSync } from 'node:fs';
import type { NicFigures, NicTraffic } from '../domain-figures.ts';
import type { RecordedNic } from '../store/device-record.ts';

/** One reading serves all VMs that are sampled at the same time. */
const sharedMs = 100;

export interface LinkCounters {
  readonly received: NicTraffic;
  readonly sent: NicTraffic;
}

let last: { readonly atMs: number; readonly links: ReadonlyMap<string, LinkCounters> } | undefined;

/** The traffic of a VM's interfaces, of those whose taps are in this network namespace. */
export function nicFigures(
  nics: readonly Pick<RecordedNic, 'id' | 'tap'>[],
): readonly NicFigures[] {
  if (nics.length === 0) return [];
  const links = hostLinks();
  return nics.flatMap(({ id, tap }) => {
    const counters = links.get(tap);
    // What the host receives from a tap the guest has sent.
    return counters === undefined
      ? []
      : [{ name: id, received: counters.sent, sent: counters.received }];
  });
}

function hostLinks(): ReadonlyMap<string, LinkCounters> {
  const nowMs = performance.now();
  if (last === undefined || nowMs - last.atMs > sharedMs) {
    last = { atMs: nowMs, links: parseLinks(readFileSync('/proc/self/net/dev', 'latin1')) };
  }
  return last.links;
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
