import { chown, mkdir, writeFile } from 'node:fs/promises';
import type { VmPaths } from '../store/paths.ts';
import { sshNames } from './ssh-arguments.ts';

export interface SshFiles {
  /** The user that ssh runs as; the key is closed to all others. */
  readonly uid: number;
  /** Name by which the guest's host key is known. */
  readonly alias: string;
  readonly privateKey: string;
  readonly hostKey: string;
}

/** Writes what ssh reads: onto the VM's tmpfs, with which it disappears. */
export async function writeSshFiles(
  { ssh, sshCommands }: Pick<VmPaths, 'ssh' | 'sshCommands'>,
  { uid, alias, privateKey, hostKey }: SshFiles,
): Promise<void> {
  await mkdir(sshCommands, { mode: 0o700 });
  await mkdir(ssh, { mode: 0o700 });
  const [type = '', key = ''] = hostKey.split(' ');
  const contents = {
    [sshNames.key]: privateKey,
    [sshNames.knownHosts]: `${alias} ${type} ${key}\n`,
    // ssh ends at once for a user that has no name.
    [sshNames.users]: `vm:x:${uid}:${uid}::/:/bin/false\n`,
  };
  for (const [name, content] of Object.entries(contents)) {
    const path = `${ssh}/${name}`;
    await writeFile(path, content, { mode: 0o600, flag: 'wx' });
    await chown(path, uid, uid);
  }
  // Its control socket is made in it.
  await chown(ssh, uid, uid);
}
