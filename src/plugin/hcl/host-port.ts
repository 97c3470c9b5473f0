import { isPort } from '#spec';

export interface HostPort {
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number | undefined;
}

/** `name`, `name:6789`, `192.0.2.1:6789`, `[2001:db8::1]:6789`; undefined when it is none of these. */
export function parseHostPort(text: string): HostPort | undefined {
  const [, six, name, digits] = /^(?:\[([^\]]+)\]|([^[\]:]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = six ?? name;
  const port = digits === undefined ? undefined : Number(digits);
  if (host === undefined || !isPort(port ?? 1)) return undefined;
  const isHost = six === undefined ? isName(host) : URL.canParse(`http://[${host}]`);
  return isHost ? { host, port } : undefined;
}

function isName(text: string): boolean {
  return text.length <= 253 && /^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$/.test(text);
}
