import { contains, parseIpv4, subnetOf } from '#spec';

/**
 * Where clouds have what only the host may read, name servers beside it: link-local, and those of Azure (the WireServer),
 * Alibaba and Oracle Classic.
 */
export const metadata4 = [
  '169.254.0.0/16',
  '168.63.129.16',
  '100.100.100.200',
  '192.0.0.192',
] as const;

/**
 * The same for IPv6: Amazon's, Google's and Oracle's. Link-local addresses are not routed. The others stand for a
 * link-local address of IPv4 where the host translates (RFC 6052, RFC 8215) or has a tunnel (RFC 3056).
 */
export const metadata6 = [
  'fe80::/10',
  'fd00:ec2::/32',
  'fd20:ce::254',
  'fd00:c1::a9fe:a9fe',
  '::a9fe:0/112',
  '::ffff:a9fe:0/112',
  '64:ff9b::a9fe:0/112',
  '64:ff9b:1::a9fe:0/112',
  '2002:a9fe::/32',
] as const;

const linkLocal = subnetOf(parseIpv4('169.254.0.0') ?? 0, 16);

/** Whether guests reach a name server there by a rule of its own only. */
export function isMetadata(server: string): boolean {
  const address = parseIpv4(server);
  if (address === undefined) return false;
  return contains(linkLocal, address) || metadata4.some((each) => each === server);
}
