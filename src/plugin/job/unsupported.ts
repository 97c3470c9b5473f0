import { quoted } from '#spec';
import { builtinName } from '../agent/builtin-lists.ts';
import { NetworkIsolationSpec_NetworkIsolationMode } from '../gen/driver_pb.ts';
import type { Job } from './job.ts';

/** Refused rather than ignored: the job would run without something it relies on. */
export function checkUnsupported({ task, driverName, report }: Job): void {
  if (task.networkIsolationSpec?.mode === NetworkIsolationSpec_NetworkIsolationMode.TASK) {
    report('network', 'the group network mode "driver" is not supported: use "host" or "bridge"');
  }
  for (const device of task.devices) {
    report('resources.device', `${quoted(device.hostPath)}: devices are not supported`);
  }
  // The builtin driver ran QEMU as that user; here it is never one with other rights than any VM's.
  if (task.user !== '' && driverName !== builtinName) {
    report('user', `${quoted(task.user)}: a VM runs as a user of its own; leave it out`);
  }
  if ((task.dns?.options.length ?? 0) > 0) {
    report('network.dns.options', 'can not be passed to guests; set them in user_data');
  }
}
