import { readFile } from 'node:fs/promises';
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

/** The `nameserver` lines of a resolv.conf, without those only the host itself can reach. */
export function parseNameservers(text: string): readonly string[] {
  const found = text.matchAll(/^[ \t]*nameserver[ \t]+(\S+)/gm);
  const servers = [...found].flatMap(([, server = '']) => {
    const address = parseIpv4(server);
    return address === undefined || address === 0 || isLoopback(address) ? [] : [server];
  });
  return [...new Set(servers)];
}
