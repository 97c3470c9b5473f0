import { readdirSync } from 'node:fs';
import type { Logger } from '#host';
import { readSysctl, writeSysctl } from '../model/sysctl.ts';

/** Has the host route IPv4; whether it did not. Never reset: other programs of the host may rely on it by now. */
export function forward(log: Logger): boolean {
  const name = 'net/ipv4/ip_forward';
  if (readSysctl(name) !== '0') return false;
  writeSysctl(name, '1');
  log.info('IPv4 forwarding turned on for the host', { sysctl: 'net.ipv4.ip_forward' });
  return true;
}

/** Has the host route IPv6; whether it did not. */
export function forward6(log: Logger): boolean {
  const links = route6();
  if (links === undefined) return false;
  const sysctl = 'net.ipv6.conf.all.forwarding';
  log.info('IPv6 forwarding turned on for the host', { sysctl, stillAcceptAdvertisements: links });
  return true;
}

/**
 * Has this thread's network namespace route IPv6. One that routes ignores router advertisements and forgets the routes that
 * it has from them, unless accept_ra is 2: so each link that accepts them, and the default of later ones, gets that value
 * first. Gives these; undefined where it routes already.
 */
export function route6(): readonly string[] | undefined {
  const name = 'net/ipv6/conf/all/forwarding';
  if (readSysctl(name) !== '0') return undefined;
  const links = readdirSync('/proc/sys/net/ipv6/conf').filter(
    (link) => link !== 'all' && readSysctl(acceptance(link)) === '1',
  );
  for (const link of links) writeSysctl(acceptance(link), '2');
  writeSysctl(name, '1');
  return links;
}

function acceptance(link: string): string {
  return `net/ipv6/conf/${link}/accept_ra`;
}
