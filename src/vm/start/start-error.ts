import { QmpError } from '#qmp';
import type { Prepared } from '../devices/device.ts';
import { asVmError, isBug, messageOf, VmError } from '../error.ts';
import { lastMessages } from '../logs/log-tail.ts';
import type { VmPaths } from '../store/paths.ts';

/** What a start that QEMU did not come through is reported as. */
export function startError(
  error: unknown,
  { paths, devices }: { readonly paths: VmPaths; readonly devices: readonly Prepared[] },
): VmError {
  if (error instanceof VmError) return error;
  if (isBug(error)) return asVmError(error);
  const messages = lastMessages(paths.messages);
  if (/Failed to get ("\w+"|shared "\w+") lock/.test(messages)) {
    const text = `a disk of the VM is in use by another VM or program: ${messages}`;
    return new VmError('host', text, { cause: error, recoverable: true });
  }
  const reported = messages === '' ? '' : `; QEMU reported: ${messages}`;
  const waits = error instanceof QmpError && error.code === 'timeout' ? awaitedBy(devices) : '';
  return new VmError('host', `QEMU did not start the VM: ${messageOf(error)}${waits}${reported}`, {
    cause: error,
    // The job passed every check, so this is the host's failure (memory, load) and a retry may succeed.
    recoverable: true,
  });
}

/** QEMU opens its disks before it answers. */
function awaitedBy(devices: readonly Prepared[]): string {
  const keys = devices.flatMap(({ awaited }) => awaited?.key ?? []);
  return keys.length === 0 ? '' : `; it may be waiting for the server of ${keys.join(', ')}`;
}
