import { readdirSync } from 'node:fs';
import { type Logger, withNetns } from '#host';
import { readSysctl, writeSysctls } from '../model/sysctl.ts';

const forwarding6 = 'net/ipv6/conf/all/forwarding';

/** Has the host route IPv4; whether it did not. Never reset: other programs of the host may rely on it by now. */
export async function forward(log: Logger): Promise<boolean> {
  const name = 'net/ipv4/ip_forward';
  if (readSysctl(name) !== '0') return false;
  await writeSysctls({ [name]: '1' });
  log.info('IPv4 forwarding turned on for the host', { sysctl: 'net.ipv4.ip_forward' });
  return true;
}

/** Has the host route IPv6; whether it did not. */
export async function forward6(log: Logger): Promise<boolean> {
  const links = await route6();
  if (links === undefined) return false;
  const sysctl = 'net.ipv6.conf.all.forwarding';
  log.info('IPv6 forwarding turned on for the host', { sysctl, stillAcceptAdvertisements: links });
  return true;
}

/**
 * Has the network namespace at the path, or this process's, route IPv6. One that routes ignores router advertisements and forgets the routes that
 * it has from them, unless accept_ra is 2: so each link that accepts them, and the default of later ones, gets that value
 * first. Gives these; undefined where it routes already.
 */
export async function route6(netns?: string): Promise<readonly string[] | undefined> {
  const links = netns === undefined ? acceptingLinks() : withNetns(netns, acceptingLinks);
  if (links === undefined) return undefined;
  const accepting = links.map((link) => [acceptance(link), '2']);
  await writeSysctls({ ...Object.fromEntries(accepting), [forwarding6]: '1' }, netns);
  return links;
}

/** undefined where this thread's network namespace routes IPv6. */
function acceptingLinks(): readonly string[] | undefined {
  if (readSysctl(forwarding6) !== '0') return undefined;
  return readdirSync('/proc/sys/net/ipv6/conf').filter(
    (link) => link !== 'all' && readSysctl(acceptance(link)) === '1',
  );
}

function acceptance(link: string): string {
  return `net/ipv6/conf/${link}/accept_ra`;
}
