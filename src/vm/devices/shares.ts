import { constants, existsSync } from 'node:fs';
import { chmod, chown, mkdir } from 'node:fs/promises';
import { relative } from 'node:path';
import {
  bindMountReadOnly,
  closeFd,
  connectUnix,
  findProgram,
  type Logger,
  listenUnix,
  openBeneath,
  openPath,
  PerFile,
  pathOnly,
  runProgram,
  spawnDetached,
  type UndoLog,
  within,
} from '#host';
import type { Emulator } from '#qemu';
import type { ShareSpec, Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import type { SharePlan } from '../start/plan.ts';
import type { VmPaths } from '../store/paths.ts';
import type { VmUndo } from '../store/undo.ts';

/** A share that is ready for QEMU; `fd` is a connection to its virtiofsd, the caller's to close. */
export interface PreparedShare {
  readonly plan: SharePlan;
  readonly fd: number | undefined;
  readonly pid: number | undefined;
}

export interface ShareTools {
  readonly kind: 'virtiofs' | '9p' | 'none';
  readonly virtiofsd: string | undefined;
  /**
   * The C program of old QEMU releases takes other options than its successor, which knows `--readonly` since 1.13.
   */
  readonly dialect: 'c' | 'rust' | 'rust-readonly';
  /** Why it is not virtiofs, where that is a fault; why there are no shares. */
  readonly reason: string;
}

const dialects = new PerFile<ShareTools['dialect']>();
const askMs = 5000;

/** Which way to share directories this host has; a virtiofsd that does not even explain itself is none. */
export async function shareTools(
  emulator: Emulator,
  waiting: Waiting,
  options: { readonly path?: string } = {},
): Promise<ShareTools> {
  const virtiofsd = emulator.virtioFs
    ? findProgram('virtiofsd', ['/usr/lib/qemu'], options.path)
    : undefined;
  const without = { virtiofsd: undefined, dialect: 'rust' } as const;
  let reason = '';
  if (virtiofsd !== undefined) {
    try {
      const dialect = await dialects.get(virtiofsd, () => askDialect(virtiofsd, waiting));
      return { kind: 'virtiofs', virtiofsd, dialect, reason: '' };
    } catch (error) {
      reason = messageOf(error);
    }
  }
  if (emulator.ninePfs) return { ...without, kind: '9p', reason };
  const nothing = 'this host has neither virtiofsd nor a QEMU with 9p; install virtiofsd';
  return { ...without, kind: 'none', reason: reason || nothing };
}

async function askDialect(program: string, waiting: Waiting): Promise<ShareTools['dialect']> {
  using limited = within(askMs, waiting);
  const help = await runProgram({ program, args: ['--help'] }, limited);
  if (help.code === 0) return dialectOf(`${help.stdout}${help.stderr}`);
  const words = help.stderr.trim().split('\n')[0] ?? '';
  throw new VmError('share', `${program} --help: exit ${help.code ?? help.signal}: ${words}`);
}

/** Told by what the program says of its options. */
export function dialectOf(help: string): ShareTools['dialect'] {
  if (!help.includes('--shared-dir')) return 'c';
  return help.includes('--readonly') ? 'rust-readonly' : 'rust';
}

/**
 * Makes the directory of a VM's shares. Their mounts go around what protects the task's files where Nomad keeps them,
 * so only their reader gets that far: virtiofsd, which is root, or with 9p the user of this one QEMU.
 */
export async function openShares({ run, shares }: VmPaths, readerUid: number): Promise<void> {
  await mkdir(shares, { mode: 0o700 });
  if (readerUid === 0) return;
  await chown(shares, readerUid, 0);
  await chmod(run, 0o711);
}

/**
 * Leaves the shares to root alone. QEMU opens a 9p directory when it starts and looks below it from there; by the time
 * the guest runs it needs no path any more.
 */
export async function closeShares({ run, shares }: VmPaths): Promise<void> {
  await chmod(run, 0o700);
  if (!existsSync(shares)) return;
  await chown(shares, 0, 0);
  await chmod(shares, 0o700);
}

export interface ShareHost {
  readonly tools: ShareTools;
  readonly paths: VmPaths;
  readonly allocDir: string;
  readonly undo: UndoLog<VmUndo>;
  readonly log: Logger;
}

/**
 * Makes one directory ready to be shared. What is read-only is made so by a mount on the host's side, whatever the
 * program that serves it does. Undefined when the directory can't be shared; the VM goes on without it.
 */
export async function prepareShare(
  share: ShareSpec,
  host: ShareHost,
): Promise<PreparedShare | undefined> {
  const { tools, paths, undo, allocDir, log } = host;
  if (tools.kind === 'none') return undefined;
  try {
    const path = `${paths.shares}/${share.tag}`;
    await undo.perform({ kind: 'mount', target: path }, async () => {
      await mkdir(path, { mode: 0o700 });
      bindMount(share.source, path, allocDir);
    });
    const plan: SharePlan = { ...share, type: tools.kind, path };
    if (tools.virtiofsd === undefined) return { plan, fd: undefined, pid: undefined };
    return await serve(plan, tools.virtiofsd, host);
  } catch (error) {
    log.warn('directory is not shared', { source: share.source, reason: messageOf(error) });
    return undefined;
  }
}

/**
 * Mounts the very directory that was looked at, in the allocation and by no link: a neighbour task may put another one
 * in its place at any time.
 */
function bindMount(source: string, target: string, allocDir: string): void {
  const root = openPath(allocDir, pathOnly | constants.O_DIRECTORY);
  try {
    const flags = pathOnly | constants.O_DIRECTORY | constants.O_NOFOLLOW;
    const fd = openBeneath(root, relative(allocDir, source), flags);
    try {
      bindMountReadOnly(`/proc/self/fd/${fd}`, target);
    } finally {
      closeFd(fd);
    }
  } finally {
    closeFd(root);
  }
}

async function serve(
  plan: SharePlan,
  program: string,
  { tools, paths, undo }: ShareHost,
): Promise<PreparedShare> {
  const socket = `${paths.run}/${plan.tag}.sock`;
  const listener = listenUnix(socket);
  try {
    const fd = connectUnix(socket);
    try {
      const spawned = await undo.perform({ kind: 'process', mark: plan.path, program }, () =>
        spawnDetached({
          program,
          args: virtiofsdArguments(plan.path, tools.dialect),
          stdio: ['ignore', 'ignore', 'ignore', listener],
        }),
      );
      return { plan, fd, pid: spawned.identity.pid };
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  } finally {
    closeFd(listener);
  }
}

/** What is read-only is so by its mount already; where the program can refuse writes as well, it does. */
export function virtiofsdArguments(
  path: string,
  dialect: ShareTools['dialect'],
): readonly string[] {
  if (dialect === 'c') {
    return ['--fd=3', '-o', `source=${path}`, '-o', 'sandbox=namespace', '-o', 'cache=auto', '-f'];
  }
  return [
    ...['--fd=3', `--shared-dir=${path}`, '--sandbox=namespace', '--cache=auto'],
    ...(dialect === 'rust-readonly' ? ['--readonly'] : []),
  ];
}
