import { readdir, realpath, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import {
  answered,
  errnoOf,
  findByMark,
  kill,
  type ProcessIdentity,
  pause,
  readUndoLog,
  unmount,
} from '#host';
import { releaseImages } from '#image';
import { decodeNetUndo, type Net, type NetUndo } from '#net';
import type { StoragePools, Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import { Rbd } from './rbd.ts';
import { releaseUid } from './uid.ts';

/**
 * What a VM has on the host, as data, so that any later process can remove it. Each step is safe to undo twice, and
 * safe to undo when its action was never performed.
 */
export type VmUndo =
  /** A mount and the empty directory it covers. */
  | { readonly kind: 'mount'; readonly target: string }
  /**
   * A process identified by a text in its arguments that no other VM's process has, and by its user where it has one
   * of its own (the program may be a script that started another one); otherwise by root's user and its program.
   */
  | {
      readonly kind: 'process';
      readonly mark: string;
      readonly program: string;
      readonly uid?: number;
    }
  /** A disk outside of the VM's directory. */
  | { readonly kind: 'file'; readonly path: string }
  /** An image of a Ceph pool, which the plugin's configuration has by this name. */
  | { readonly kind: 'rbd'; readonly pool: string; readonly image: string }
  /** What it uses of an image store. */
  | { readonly kind: 'image'; readonly store: string; readonly vm: string }
  | { readonly kind: 'uid'; readonly file: string; readonly name: string }
  | { readonly kind: 'net'; readonly step: NetUndo }
  /** A step of a later version, after a downgrade: it stays in the log, and all others are undone. */
  | { readonly kind: 'unknown'; readonly json: string };

const schema = v.variant('kind', [
  v.object({ kind: v.literal('mount'), target: v.string() }),
  v.object({
    kind: v.literal('process'),
    mark: v.pipe(v.string(), v.minLength(8)),
    program: v.string(),
    uid: v.exactOptional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  }),
  v.object({ kind: v.literal('file'), path: v.string() }),
  v.object({ kind: v.literal('rbd'), pool: v.string(), image: v.string() }),
  v.object({ kind: v.literal('image'), store: v.string(), vm: v.string() }),
  v.object({ kind: v.literal('uid'), file: v.string(), name: v.string() }),
  v.object({ kind: v.literal('net'), step: v.unknown() }),
]);

const maxShown = 200;

/** Decodes one step read back from an undo log. */
export function decodeVmUndo(json: unknown): VmUndo {
  const result = v.safeParse(schema, json);
  const unknown: VmUndo = { kind: 'unknown', json: JSON.stringify(json).slice(0, maxShown) };
  if (!result.success) return unknown;
  const step = result.output;
  if (step.kind !== 'net') return step;
  const net = decodeNetUndo(step.step);
  return net === undefined ? unknown : { kind: 'net', step: net };
}

/** What undoing depends on beside the step. */
export interface UndoHost {
  readonly networks: Pick<Net, 'vmTerminatedTeardown'>;
  readonly pools: StoragePools;
}

/** Undoes one step. */
export async function undoStep(
  step: VmUndo,
  { networks, pools }: UndoHost,
  waiting: Waiting,
): Promise<void> {
  switch (step.kind) {
    case 'mount':
      await removeMount(step.target, waiting);
      return;
    case 'process':
      await killMarked(step, waiting);
      return;
    case 'file':
      await answered(step.path, (path) => rm(path, { force: true }), waiting);
      return;
    case 'rbd':
      await removeRbd(step, pools, waiting);
      return;
    case 'image':
      await releaseImages(step.store, step.vm);
      return;
    case 'uid':
      await releaseUid(step.file, step.name, waiting);
      return;
    case 'net':
      await networks.vmTerminatedTeardown(step.step, waiting);
      return;
    case 'unknown':
      throw new VmError(
        'host',
        `this version of the driver does not know the undo step ${step.json}: update it`,
      );
    default:
      step satisfies never;
  }
}

async function removeRbd(
  { pool: name, image }: Extract<VmUndo, { kind: 'rbd' }>,
  { pools }: StoragePools,
  waiting: Waiting,
): Promise<void> {
  const pool = pools.find((pool) => pool.name === name);
  if (pool?.kind !== 'ceph') {
    const text = `storage pool "${name}" is not configured any more, and image ${image} is still in it`;
    throw new VmError('host', text, { recoverable: true });
  }
  try {
    await new Rbd(pool).remove(image, waiting);
  } catch (cause) {
    const text = `image ${image} in storage pool "${name}": ${messageOf(cause)}`;
    throw new VmError('host', text, { cause, recoverable: true });
  }
}

/** What is mounted on the directory may belong to the task: nothing in the mount is removed. */
async function removeMount(target: string, waiting: Waiting): Promise<void> {
  while (unmount(target)) await pause(1, waiting);
  try {
    await rmdir(target);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    if (errnoOf(error) !== 'ENOTEMPTY') throw error;
    // Files that were created while nothing was mounted here. Directories stay: something may be mounted on them.
    const entries = await readdir(target, { withFileTypes: true });
    const files = entries.filter((entry) => !entry.isDirectory());
    for (const { name } of files) await rm(join(target, name));
    await rmdir(target);
  }
}

type ProcessStep = Extract<VmUndo, { kind: 'process' }>;

/** The processes of a VM that still run, as its undo log names them. */
export async function processesIn(
  undoPath: string,
  waiting: Waiting,
): Promise<readonly ProcessIdentity[]> {
  const steps = await readUndoLog(undoPath, decodeVmUndo);
  const found = await Promise.all(
    steps.map((step) => (step.kind === 'process' ? processesOf(step, waiting) : [])),
  );
  return found.flat();
}

/** Skips processes that only mention the mark in an argument: an operator's `grep`, a program of another user. */
async function processesOf(
  { mark, program, uid }: ProcessStep,
  waiting: Waiting,
): Promise<readonly ProcessIdentity[]> {
  if (uid !== undefined) return findByMark(mark, [uid], waiting, { own: false });
  const real = await realpath(program).catch(() => program);
  return findByMark(mark, [], waiting, { programs: [program, real] });
}

async function killMarked(step: ProcessStep, waiting: Waiting): Promise<void> {
  for (const identity of await processesOf(step, waiting)) await kill(identity, waiting);
}
