import { closeFd, HostError, listenTcp, listenUnix, sendWithDescriptor, withNetns } from '#host';
import { display as displayPart, type MachinePlan } from '#qemu';
import type { QmpClient } from '#qmp';
import type { DisplaySpec, VncPort, VncSpec, Waiting } from '#spec';
import { VmError } from '../error.ts';
import type { Prepared, Site } from './device.ts';

const anyAddress = '0.0.0.0';

interface Place {
  readonly address: string;
  readonly port: number;
  /** Path of a network namespace; the host's when left out. */
  readonly netns?: string;
}

/** The display that the job configures, if any. QEMU keeps what it listens on: viewers need no plugin. */
export function prepareDisplay(
  display: DisplaySpec | undefined,
  { family }: MachinePlan,
  { paths }: Pick<Site, 'paths'>,
): readonly Prepared[] {
  if (display === undefined) return [];
  const { video, vnc } = display;
  const record = { kind: 'display', id: 'display', video } as const;
  const part = displayPart(display, family);
  if (vnc === undefined) return [{ part, record }];
  const listen = vnc.listen.map(({ label, hostIp, hostPort }) => ({
    label,
    address: `${hostIp.includes(':') ? `[${hostIp}]` : hostIp || anyAddress}:${hostPort}`,
  }));
  return [
    {
      part,
      record: { ...record, vnc: { listen } },
      beforeGuest: (qmp, waiting) => serveVnc(vnc, paths.vnc, qmp, waiting),
    },
  ];
}

/** The password comes first: until it is set no viewer is admitted. */
async function serveVnc(
  { password, listen }: VncSpec,
  socketPath: string,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<void> {
  if (password !== undefined) {
    await qmp.execute('set_password', { protocol: 'vnc', password }, waiting);
  }
  const sockets = [
    () => listenUnix(socketPath),
    ...placesOf(listen).map((place) => () => listenOn(place)),
  ];
  const addresses = [];
  for (const [index, open] of sockets.entries()) {
    const str = `vnc${index}`;
    using opened = new DisposableStack();
    const fd = opened.adopt(open(), closeFd);
    await qmp.executeWith(sendWithDescriptor.bind(null, fd), 'getfd', { fdname: str }, waiting);
    addresses.push({ type: 'fd', str } as const);
  }
  await qmp.execute('display-update', { type: 'vnc', addresses }, waiting);
}

/**
 * In the network of the group usually at every address: what comes to any of the host's is led there. A socket stays in the
 * namespace that it was made in. IPv6 sockets take both families.
 */
function placesOf(listen: readonly VncPort[]): readonly Place[] {
  const shared = listen.flatMap(({ hostIp, inGroup }) =>
    inGroup === undefined ? [] : [{ ...inGroup, isIpv6: hostIp.includes(':') }],
  );
  const inGroups = [...Map.groupBy(shared, ({ port }) => port).values()].flatMap((same) => {
    const every = same.some(({ isIpv6 }) => isIpv6) ? '::' : anyAddress;
    return same.slice(0, 1).map(({ netns, port, address = every }) => ({ netns, port, address }));
  });
  const onHost = listen
    .filter(({ inGroup }) => inGroup === undefined)
    .map(({ hostIp, hostPort }) => ({ address: hostIp || anyAddress, port: hostPort }));
  return [...onHost, ...inGroups];
}

function listenOn({ address, port, netns }: Place): number {
  const open = (): number => listenTcp(address, port);
  try {
    return netns === undefined ? open() : withNetns(netns, open);
  } catch (cause) {
    if (!(cause instanceof HostError)) throw cause;
    const text = `display.vnc.port: ${cause.message}`;
    throw new VmError('host', text, { cause, recoverable: true });
  }
}
