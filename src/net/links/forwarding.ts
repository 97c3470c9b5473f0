import { readdirSync } from 'node:fs';
import type { Logger } from '#host';
import { readSysctl, writeSysctl } from '../model/sysctl.ts';

/** Has the host route IPv4. Never reset: other programs of the host may rely on it by now. */
export function forward(log: Logger): void {
  const name = 'net/ipv4/ip_forward';
  if (readSysctl(name) !== '0') return;
  writeSysctl(name, '1');
  log.info('IPv4 forwarding turned on for the host', { sysctl: 'net.ipv4.ip_forward' });
}

/**
 * Has the host route IPv6. A host that routes ignores router advertisements and forgets the routes that it has from
 * them, unless accept_ra is 2: so each link that accepts them, and the default of later ones, gets that value first.
 */
export function forward6(log: Logger): void {
  const name = 'net/ipv6/conf/all/forwarding';
  if (readSysctl(name) !== '0') return;
  const links = readdirSync('/proc/sys/net/ipv6/conf').filter(
    (link) => link !== 'all' && readSysctl(acceptance(link)) === '1',
  );
  for (const link of links) writeSysctl(acceptance(link), '2');
  writeSysctl(name, '1');
  const sysctl = 'net.ipv6.conf.all.forwarding';
  log.info('IPv6 forwarding turned on for the host', { sysctl, stillAcceptAdvertisements: links });
}

function acceptance(link: string): string {
  return `net/ipv6/conf/${link}/accept_ra`;
}
