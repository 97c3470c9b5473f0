import { closeFd, HostError, listenTcp, listenUnix, sendWithDescriptor } from '#host';
import { display as displayPart, type MachinePlan } from '#qemu';
import type { QmpClient } from '#qmp';
import type { DisplaySpec, VncSpec, Waiting } from '#spec';
import { VmError } from '../error.ts';
import type { Prepared, Site } from './device.ts';

const anyAddress = '0.0.0.0';

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
    ...listen.map(
      ({ hostIp, hostPort }) =>
        () =>
          listenOn(hostIp || anyAddress, hostPort),
    ),
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

function listenOn(address: string, port: number): number {
  try {
    return listenTcp(address, port);
  } catch (cause) {
    if (!(cause instanceof HostError)) throw cause;
    const text = `display.vnc.port: ${cause.message}`;
    throw new VmError('host', text, { cause, recoverable: true });
  }
}
