/** The most bytes of a Unix socket's path: `sun_path` is 108 bytes with its NUL. */
export const maxSocketPathBytes = 107;

/** A port of the host. */
export interface HostPort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
}

/** Whether a program can listen at it: 0 stands for any. */
export function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port <= 65_535;
}

/** `tcp/22` is one port, `53` is both; undefined when it is neither. */
export function parseHostPorts(text: string): readonly HostPort[] | undefined {
  const [, protocol, digits] = /^(?:(tcp|udp)\/)?([1-9]\d{0,4})$/.exec(text) ?? [];
  const port = Number(digits);
  if (!isPort(port)) return undefined;
  if (protocol === 'tcp' || protocol === 'udp') return [{ protocol, port }];
  return [
    { protocol: 'tcp', port },
    { protocol: 'udp', port },
  ];
}
