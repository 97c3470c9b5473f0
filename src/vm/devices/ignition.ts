import { chmod, chown, rm, writeFile } from 'node:fs/promises';
import { ignitionConfig } from '#qemu';
import type { Prepared, Site } from './device.ts';

/**
 * Ignition's configuration where guests that have it read it. It has passwords and tokens, so that it is in no command
 * line; QEMU takes it only from a file that it opens by its name, and as the VM's user.
 */
export async function prepareIgnition(
  text: string | undefined,
  { paths, uid }: Pick<Site, 'paths' | 'uid'>,
): Promise<readonly Prepared[]> {
  if (text === undefined) return [];
  await writeFile(paths.ignition, text, { mode: 0o400, flag: 'wx' });
  await chown(paths.ignition, uid, 0);
  // A QEMU that sees the host's files has its way to it, until the shares are closed before the guest runs.
  await chmod(paths.run, 0o711);
  return [
    {
      part: ignitionConfig(paths.ignition),
      record: { kind: 'emulated', id: 'ignition', model: 'fw_cfg' },
      beforeGuest: () => rm(paths.ignition),
    },
  ];
}
