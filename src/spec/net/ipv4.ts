/** IPv4 addresses as numbers, so that subnets are arithmetic. */

/** Dotted decimal → number; undefined when it isn't exactly that (no leading zeros, no short forms). */
export function parseIpv4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return value;
}

export function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');
}

export interface Subnet {
  /** Its first address. */
  readonly network: number;
  readonly prefix: number;
  readonly mask: number;
  /** Its last address. */
  readonly broadcast: number;
}

export function subnetOf(address: number, prefix: number): Subnet {
  const mask = prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
  const network = (address & mask) >>> 0;
  return { network, prefix, mask, broadcast: (network | ~mask) >>> 0 };
}

export function contains(subnet: Subnet, address: number): boolean {
  return address >= subnet.network && address <= subnet.broadcast;
}

export function formatSubnet(subnet: Subnet): string {
  return `${formatIpv4(subnet.network)}/${subnet.prefix}`;
}

/** 127.0.0.0/8. */
export function isLoopback(address: number): boolean {
  return address >>> 24 === 127;
}

/** Whether a machine may have it on a network: not 0.0.0.0/8, a loopback address, or one of many machines and beyond. */
export function isOfOneMachine(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && !isLoopback(address) && first < 224;
}
