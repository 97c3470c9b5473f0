import { type DiskPlace, maxSocketPathBytes } from '#spec';
import { parseHostPort } from '../../hcl/host-port.ts';

type NbdPlace = DiskPlace & { readonly kind: 'nbd' };

const defaultPort = 10_809;

/** `nbd://host:port/export` or `nbd+unix:///export?socket=/path`; undefined when it is neither. */
export function parseNbd(text: string): NbdPlace | undefined {
  const [, unix, authority = '', path = '', query] =
    /^nbd(\+unix)?:\/\/([^/?#@]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text) ?? [];
  const name = decoded(path);
  if (name === undefined) return undefined;
  if (unix === undefined) {
    const host = query === undefined ? parseHostPort(authority) : undefined;
    if (host === undefined) return undefined;
    const server = { host: host.host, port: host.port ?? defaultPort };
    return { kind: 'nbd', server, export: name };
  }
  const socket = decoded(/^socket=([^&]+)$/.exec(query ?? '')?.[1] ?? '');
  if (authority !== '' || !socket?.startsWith('/')) return undefined;
  if (Buffer.byteLength(socket) > maxSocketPathBytes) return undefined;
  return { kind: 'nbd', server: { socket }, export: name };
}

function decoded(text: string): string | undefined {
  try {
    const plain = decodeURIComponent(text);
    return plain.includes('\0') ? undefined : plain;
  } catch {
    return undefined;
  }
}
