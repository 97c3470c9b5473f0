import { constants, openSync, read, readFileSync, write } from 'node:fs';
import { promisify } from 'node:util';
import { closeFd, errnoOf, openPath, withNetns } from '#host';
import { netError } from './error.ts';

/** Settings below /proc/sys with the values they are to have: `net/ipv4/ip_forward` → `1`. */
export type Sysctls = Readonly<Record<string, string>>;

interface OpenSetting {
  readonly name: string;
  readonly value: string;
  readonly fd: number;
}

const readAside = promisify(read);
const writeAside = promisify(write);
// No setting that is written here has a longer value.
const maxValueBytes = 64;

/**
 * A setting below /proc/sys, e.g. `net/ipv4/ip_forward`; those below net/ belong to this process's network namespace.
 * undefined where the kernel has no such setting (IPv6 may be compiled out, a link may have disappeared). Throws NetError.
 */
export function readSysctl(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${name}`, 'utf8').trim();
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined;
    throw netError(`reading /proc/sys/${name} failed`, cause);
  }
}

/**
 * Gives settings their values, one after the other; where there is no such setting, nothing is done. Those below net/ are of
 * the network namespace at the path, or this process's. For many of them the kernel needs the lock of all links, so the event loop
 * does not wait for it. Throws NetError where one can't be changed.
 */
export async function writeSysctls(settings: Sysctls, netns?: string): Promise<void> {
  await eachSetting(settings, netns, apply);
}

/** The last parts of the names of those of the settings that have another value. Throws NetError. */
export async function changedSysctls(settings: Sysctls): Promise<readonly string[]> {
  const changed: string[] = [];
  await eachSetting(settings, undefined, async (setting) => {
    if (!(await isSet(setting))) changed.push(setting.name.replace(/^.*\//, ''));
  });
  return changed;
}

async function eachSetting(
  settings: Sysctls,
  netns: string | undefined,
  action: (setting: OpenSetting) => Promise<void>,
): Promise<void> {
  // To which namespace a file belongs is decided when it is opened, which waits for nothing.
  const open = (): readonly OpenSetting[] => Object.entries(settings).flatMap(openSetting);
  const opened = netns === undefined ? open() : withNetns(netns, open);
  try {
    for (const setting of opened) await action(setting);
  } finally {
    for (const { fd } of opened) closeFd(fd);
  }
}

function openSetting([name, value]: readonly [string, string]): readonly OpenSetting[] {
  try {
    return [{ name, value, fd: openPath(`/proc/sys/${name}`, constants.O_RDONLY) }];
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return [];
    throw netError(`reading /proc/sys/${name} failed`, cause);
  }
}

/** Writes only where the value is another one: where /proc/sys is read-only, an operator may have set it. */
async function apply(setting: OpenSetting): Promise<void> {
  if (await isSet(setting)) return;
  const { name, value, fd } = setting;
  try {
    const writable = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY);
    await writeAside(writable, value).finally(() => closeFd(writable));
  } catch (cause) {
    throw netError(`setting /proc/sys/${name} to ${value} failed`, cause);
  }
}

async function isSet({ name, value, fd }: OpenSetting): Promise<boolean> {
  try {
    const now = Buffer.alloc(maxValueBytes);
    const { bytesRead } = await readAside(fd, now, 0, now.length, 0);
    return now.toString('latin1', 0, bytesRead).trim() === value;
  } catch (cause) {
    // Its link has gone meanwhile.
    if (errnoOf(cause) === 'ENOENT') return true;
    throw netError(`reading /proc/sys/${name} failed`, cause);
  }
}
