import { chmodSync, chownSync, constants, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  bindDirectory,
  closeFd,
  connectUnix,
  createUserNamespace,
  type IdMap,
  inUserNamespace,
  listenUnix,
  openAside,
  pathOnly,
  reopen,
  type SpawnedProcess,
  spawnDetached,
  statAside,
  unmount,
  withBeneath,
} from '#host';
import { type Emulator, ninePShare, virtiofsShare } from '#qemu';
import type { ShareSpec, Waiting } from '#spec';
import { messageOf } from '../../error.ts';
import type { VmPaths } from '../../store/paths.ts';
import type { Prepared, Site } from '../device.ts';
import { type ShareTools, shareTools, virtiofsdArguments } from './share-tools.ts';
import { idMapOf } from './volume-shares.ts';

/** In the VM's run directory, the directory with the mount of one that a virtiofsd serves which is not root. */
const volumePlace = 'volume';

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
  const toolsOf = ({ ninePfs }: ShareSpec): ShareTools =>
    ninePfs === true && emulator.ninePfs ? { ...tools, kind: '9p', virtiofsd: undefined } : tools;
  const isRead = specs.some((spec) => toolsOf(spec).kind === '9p');
  openShares(site.paths, isRead ? site.uid : 0);
  const prepared = await Promise.all(
    specs.map((spec, index) => prepareShare({ spec, index }, toolsOf(spec), site, waiting)),
  );
  return prepared.filter((share) => share !== undefined);
}

/**
 * Creates the directory of a VM's shares. Their mounts bypass the permissions that protect the task's files where
 * Nomad keeps them, so only their reader has access: virtiofsd, which is root, or with 9p the user of this QEMU.
 */
function openShares({ run, shares }: VmPaths, readerUid: number): void {
  mkdirSync(shares, { mode: 0o700 });
  if (readerUid === 0) return;
  chownSync(shares, readerUid, 0);
  chmodSync(run, 0o711);
}

/**
 * Takes the mounts of the shares out of the host's sight, once each has a reader: QEMU opens a 9p directory when it starts and
 * then works relative to it, a virtiofsd has its own namespace of mounts before it answers QEMU. The mounts live on with them,
 * and Nomad does not count them among the node's disks.
 */
export function closeShares({ run, shares }: VmPaths): void {
  chmodSync(run, 0o700);
  for (const path of placesOf(run, shares)) unmount(path);
  if (!existsSync(shares)) return;
  chownSync(shares, 0, 0);
  chmodSync(shares, 0o700);
}

function placesOf(run: string, shares: string): readonly string[] {
  return readdirSync(run)
    .map((name) => join(run, name))
    .filter((path) => path === shares || basename(path).startsWith(volumePlace))
    .flatMap((parent) => readdirSync(parent).map((name) => join(parent, name)));
}

/**
 * Prepares one directory; undefined when it can't be shared. A read-only share is mounted read-only on the host,
 * whatever the program that serves it does.
 */
export async function prepareShare(
  { spec, index }: { readonly spec: ShareSpec; readonly index: number },
  tools: ShareTools,
  site: Site,
  waiting: Waiting,
): Promise<Prepared | undefined> {
  const { tag, source, target, readOnly } = spec;
  using opened = new DisposableStack();
  try {
    // What is mounted is what was looked at.
    const directory = opened.adopt(await openShare(spec, site.allocDir), closeFd);
    const idMap =
      spec.volume === true && !readOnly ? idMapOf(await statAside(directory), spec) : undefined;
    const path = placeOf({ spec, index }, idMap?.firstId, site.paths);
    await site.undo.perform({ kind: 'mount', target: path }, () => {
      mkdirSync(path, { mode: 0o700 });
      bindDirectory(`/proc/self/fd/${directory}`, path, { writable: !readOnly });
    });
    const { virtiofsd, dialect } = tools;
    const served =
      virtiofsd === undefined
        ? { part: ninePShare({ index, tag, path, readOnly }) }
        : await serve({ index, tag, path, readOnly, idMap }, { virtiofsd, dialect }, site, waiting);
    const type = virtiofsd === undefined ? '9p' : 'virtiofs';
    return {
      ...served,
      record: { kind: 'share', id: served.part.id, tag, source, target, type },
      guest: { mounts: [{ tag, target, type, readOnly }] },
    };
  } catch (error) {
    if (spec.volume === true) throw error;
    site.log.warn('directory not shared', { source, error: messageOf(error) });
    site.emit(`Directory not shared with the guest: ${target}`, { source });
    return undefined;
  }
}

/**
 * Where the directory is mounted. A virtiofsd that is not root needs a way to it, which the others must not have: one
 * of its own.
 */
function placeOf(
  { spec: { tag }, index }: { readonly spec: ShareSpec; readonly index: number },
  ownerId: number | undefined,
  { run, shares }: VmPaths,
): string {
  if (ownerId === undefined) return `${shares}/${tag}`;
  const parent = join(run, `${volumePlace}${index}`);
  mkdirSync(parent, { mode: 0o700 });
  chownSync(parent, ownerId, ownerId);
  chmodSync(run, 0o711);
  return `${parent}/${tag}`;
}

/**
 * Opens a directory of the allocation without following links that lead out of it: another task may replace it at any time.
 * The path of a volume is the client's.
 */
async function openShare({ source, volume }: ShareSpec, allocDir: string): Promise<number> {
  const flags = pathOnly | constants.O_DIRECTORY;
  if (volume === true) return await openAside(source, flags);
  const inside = constants.O_DIRECTORY | constants.O_NOFOLLOW;
  return withBeneath(allocDir, source, inside, (found) => reopen(found, flags));
}

interface Served {
  readonly index: number;
  readonly tag: string;
  readonly path: string;
  readonly readOnly: boolean;
  /** The users of the guest in a writable directory; undefined: virtiofsd is root, and nothing can be written. */
  readonly idMap: IdMap | undefined;
}

/** QEMU's end is connected before it starts; the virtiofsd that accepts it is started while QEMU initialises. */
async function serve(
  { index, tag, path, readOnly, idMap }: Served,
  { virtiofsd, dialect }: { readonly virtiofsd: string; readonly dialect: ShareTools['dialect'] },
  { paths, undo, files }: Site,
  waiting: Waiting,
): Promise<Pick<Prepared, 'part' | 'finish'>> {
  const part = virtiofsShare({ index, tag });
  const socket = `${paths.run}/${tag}.sock`;
  const listener = files.own(listenUnix(socket));
  files.add(part.id, connectUnix(socket));
  const namespace =
    idMap === undefined ? undefined : files.own(await createUserNamespace(idMap, waiting));
  const plain = { program: virtiofsd, args: virtiofsdArguments(path, { dialect, readOnly }) };
  const stdio = ['ignore', 'ignore', 'ignore', listener] as const;
  const start = (): Promise<SpawnedProcess> =>
    namespace === undefined
      ? spawnDetached({ ...plain, stdio })
      : spawnDetached({ ...inUserNamespace(plain, 4), stdio: [...stdio, namespace] });
  const step = {
    kind: 'process',
    mark: path,
    program: virtiofsd,
    ...(idMap === undefined ? {} : { uid: idMap.firstId }),
  } as const;
  return {
    part,
    finish: async () => [(await undo.perform(step, start)).identity],
  };
}
