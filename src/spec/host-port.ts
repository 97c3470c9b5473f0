/** A port of the host. */
export interface HostPort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
}

/** `tcp/22` is one port, `53` is both; undefined when it is neither. */
export function parseHostPorts(text: string): readonly HostPort[] | undefined {
  const [, protocol, digits] = /^(?:(tcp|udp)\/)?([1-9]\d{0,4})$/.exec(text) ?? [];
  const port = Number(digits);
  if (!(port <= 65_535)) return undefined;
  if (protocol === 'tcp' || protocol === 'udp') return [{ protocol, port }];
  return [
    { protocol: 'tcp', port },
    { protocol: 'udp', port },
  ];
}
