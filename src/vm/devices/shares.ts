import { constants, existsSync } from 'node:fs';
import { chmod, chown, mkdir } from 'node:fs/promises';
import { bindMountReadOnly, connectUnix, listenUnix, spawnDetached, withBeneath } from '#host';
import { type Emulator, ninePShare, virtiofsShare } from '#qemu';
import type { ShareSpec, Waiting } from '#spec';
import { messageOf } from '../error.ts';
import type { VmPaths } from '../store/paths.ts';
import type { Prepared, Site } from './device.ts';
import { type ShareTools, shareTools, virtiofsdArguments } from './share-tools.ts';

/** Prepares directories of the host for the guest. One that can't be shared is reported; the VM starts without it. */
export async function prepareShares(
  specs: readonly ShareSpec[],
  emulator: Emulator,
  site: Site,
  waiting: Waiting,
): Promise<readonly Prepared[]> {
  if (specs.length === 0) return [];
  const tools = await shareTools(emulator, waiting);
  if (tools.kind === 'none') {
    site.emit(`No shared directories in the guest: ${tools.reason}`);
    return [];
  }
  if (tools.reason !== '') site.emit(`Directories are shared over 9p: ${tools.reason}`);
  await openShares(site.paths, tools.kind === '9p' ? site.uid : 0);
  const prepared = await Promise.all(
    specs.map((spec, index) => prepareShare({ spec, index }, tools, site)),
  );
  return prepared.filter((share) => share !== undefined);
}

/**
 * Creates the directory of a VM's shares. Their mounts bypass the permissions that protect the task's files where
 * Nomad keeps them, so only their reader has access: virtiofsd, which is root, or with 9p the user of this QEMU.
 */
async function openShares({ run, shares }: VmPaths, readerUid: number): Promise<void> {
  await mkdir(shares, { mode: 0o700 });
  if (readerUid === 0) return;
  await chown(shares, readerUid, 0);
  await chmod(run, 0o711);
}

/**
 * Restricts the shares to root. QEMU opens a 9p directory when it starts and then works relative to it; by the time
 * the guest runs it needs no path any more.
 */
export async function closeShares({ run, shares }: VmPaths): Promise<void> {
  await chmod(run, 0o700);
  if (!existsSync(shares)) return;
  await chown(shares, 0, 0);
  await chmod(shares, 0o700);
}

/**
 * Prepares one directory; undefined when it can't be shared. A read-only share is mounted read-only on the host,
 * whatever the program that serves it does.
 */
export async function prepareShare(
  { spec, index }: { readonly spec: ShareSpec; readonly index: number },
  tools: ShareTools,
  site: Site,
): Promise<Prepared | undefined> {
  const { tag, source, target, readOnly } = spec;
  const path = `${site.paths.shares}/${tag}`;
  try {
    await site.undo.perform({ kind: 'mount', target: path }, async () => {
      await mkdir(path, { mode: 0o700 });
      bindMount(source, path, site.allocDir);
    });
    const { virtiofsd, dialect } = tools;
    const served =
      virtiofsd === undefined
        ? { part: ninePShare({ index, tag, path, readOnly }) }
        : serve({ index, tag, path }, { virtiofsd, dialect }, site);
    const type = virtiofsd === undefined ? '9p' : 'virtiofs';
    return {
      ...served,
      record: { kind: 'share', id: served.part.id, tag, source, target, type },
      guest: { mounts: [{ tag, target, type, readOnly }] },
    };
  } catch (error) {
    site.log.warn('directory not shared', { source, error: messageOf(error) });
    site.emit(`Directory not shared with the guest: ${target}`, { source });
    return undefined;
  }
}

/**
 * Mounts the directory by a descriptor, opened inside the allocation without following links: another task may replace
 * it at any time.
 */
function bindMount(source: string, target: string, allocDir: string): void {
  withBeneath(allocDir, source, constants.O_DIRECTORY | constants.O_NOFOLLOW, (fd) =>
    bindMountReadOnly(`/proc/self/fd/${fd}`, target),
  );
}

/** QEMU's end is connected before it starts; the virtiofsd that accepts it is started while QEMU initialises. */
function serve(
  { index, tag, path }: { readonly index: number; readonly tag: string; readonly path: string },
  { virtiofsd, dialect }: { readonly virtiofsd: string; readonly dialect: ShareTools['dialect'] },
  { paths, undo, files }: Site,
): Pick<Prepared, 'part' | 'finish'> {
  const part = virtiofsShare({ index, tag });
  const socket = `${paths.run}/${tag}.sock`;
  const listener = files.own(listenUnix(socket));
  files.add(part.id, connectUnix(socket));
  const step = { kind: 'process', mark: path, program: virtiofsd } as const;
  return {
    part,
    finish: async () => {
      const { identity } = await undo.perform(step, () =>
        spawnDetached({
          program: virtiofsd,
          args: virtiofsdArguments(path, dialect),
          stdio: ['ignore', 'ignore', 'ignore', listener],
        }),
      );
      return [identity];
    },
  };
}
