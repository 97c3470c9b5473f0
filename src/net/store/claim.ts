import * as v from 'valibot';
import type { HostAccess, PortSpec } from '#spec';

/**
 * One NIC's place in a managed network. The file that holds it is named by the address, so that an address can be
 * claimed once only, by whichever process; rules and DHCP answers are made from these files and from nothing else.
 */
export interface Claim {
  readonly ip: string;
  readonly vm: string;
  readonly index: number;
  readonly mac: string;
  readonly tap: string;
  readonly hostname: string;
  readonly ports: readonly PortSpec[];
}

/** A managed network that is in use, as kept on disk. */
export interface NetworkRecord {
  readonly bridge: string;
  readonly address: string;
  readonly prefix: number;
  /** true: we made the bridge and remove it; false: it was there. */
  readonly owned: boolean;
  readonly hostAccess: HostAccess;
  /** What its guests are told. */
  readonly nameservers: readonly string[];
}

/** A network in use, with everybody in it. */
export interface NetworkInUse {
  readonly record: NetworkRecord;
  readonly claims: readonly Claim[];
}

const portMapping = v.object({
  label: v.string(),
  hostIp: v.string(),
  hostPort: v.number(),
  guestPort: v.number(),
});
const claim = v.object({
  vm: v.string(),
  index: v.number(),
  mac: v.string(),
  tap: v.string(),
  hostname: v.string(),
  ports: v.array(portMapping),
});
const networkRecord = v.object({
  bridge: v.string(),
  address: v.string(),
  prefix: v.number(),
  owned: v.boolean(),
  hostAccess: v.picklist(['closed', 'open']),
  nameservers: v.optional(v.array(v.string()), []),
});

/** undefined for a file that is torn or not ours. */
export function decodeClaim(ip: string, text: string): Claim | undefined {
  const result = v.safeParse(claim, json(text));
  return result.success ? { ip, ...result.output } : undefined;
}

export function encodeClaim({ ip: _, ...rest }: Claim): string {
  return `${JSON.stringify(rest)}\n`;
}

export function decodeNetwork(text: string): NetworkRecord | undefined {
  const result = v.safeParse(networkRecord, json(text));
  return result.success ? result.output : undefined;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
