import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { isLoopback, parseIpv4 } from '#spec';

// systemd-resolved writes its own loopback address to the first and its upstream servers to the second.
const files = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'];

/** IPv4 name servers of the host that a guest can reach as well; [] when there are none. */
export async function hostNameservers(): Promise<readonly string[]> {
  for (const file of files) {
    const found = parseNameservers(await readFile(file, 'utf8').catch(() => ''));
    if (found.length > 0) return found;
  }
  return [];
}

/** All name servers that the host itself asks; those at its loopback and of IPv6 are not for guests. */
export async function hostResolvers(): Promise<readonly string[]> {
  const text = await readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  return serverLines(text).filter((server) => isIPv6(server) || isAssigned(server));
}

function isAssigned(server: string): boolean {
  return (parseIpv4(server) ?? 0) !== 0;
}

/** The `nameserver` lines of a resolv.conf, without those only the host itself can reach. */
export function parseNameservers(text: string): readonly string[] {
  return serverLines(text).filter(
    (server) => isAssigned(server) && !isLoopback(parseIpv4(server) ?? 0),
  );
}

function serverLines(text: string): readonly string[] {
  const found = text.matchAll(/^[ \t]*nameserver[ \t]+(\S+)/gm);
  return [...new Set([...found].map(([, server = '']) => server))];
}
