import { constants, mkdirSync } from 'node:fs';
import { listenUnix, openPath } from '#host';
import { execChannels } from '#qemu';
import type { TaskLogs } from '../logs/task-logs.ts';
import type { Site } from './device.ts';

/**
 * Opens QEMU's channels: the sockets of the monitor, the guest agent and the commands in the guest, which listen before
 * QEMU exists, the consoles' files, and the log pipes, whose roles are returned.
 */
export function openChannels(logs: TaskLogs, { paths, files }: Site): readonly string[] {
  const append = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
  files.add('qmp', listenUnix(paths.qmp));
  files.add('agent', listenUnix(paths.agent));
  mkdirSync(paths.exec, { mode: 0o700 });
  for (const role of execChannels) files.add(role, listenUnix(`${paths.exec}/${role}`));
  files.add('hvc', listenUnix(paths.hvcSocket));
  files.add('hvc-log', openPath(paths.hvcLog, append, 0o600));
  files.add('console', openPath(paths.console, append, 0o600));
  return logs.takeHeld().map(({ role, fd }) => {
    files.add(role, fd);
    return role;
  });
}
