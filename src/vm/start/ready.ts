import type { VmSpec } from '#spec';
import type { Facts } from '../devices/device.ts';
import { VmError } from '../error.ts';
import { nicsOf, type RecordedReady } from '../store/record.ts';

/**
 * The job's definition of readiness with the address that its port is at. Throws VmError where the driver does not know
 * the guest's address.
 */
export function recordReady(
  { ready }: Pick<VmSpec, 'ready'>,
  devices: readonly Facts[],
): { readonly ready?: RecordedReady } {
  if (ready === undefined) return {};
  const { port, ...rest } = ready;
  if (port === undefined) return { ready: rest };
  const nics = nicsOf({ devices: devices.map(({ record }) => record) });
  const nic =
    typeof port === 'number' ? nics[0] : nics.find(({ portMap }) => Object.hasOwn(portMap, port));
  const number = typeof port === 'number' ? port : nic?.portMap[port];
  if (nic?.ip === undefined || number === undefined) {
    throw new VmError(
      'job',
      'ready.port: the driver knows the address of a guest only in a managed network; use "agent" or "log" elsewhere',
    );
  }
  return { ready: { ...rest, port: { address: nic.ip, port: number } } };
}
