import { readlink, realpath, rm } from 'node:fs/promises';
import * as v from 'valibot';
import { findByMark, kill, unmount, type Waiting } from '#host';
import { decodeNetUndo, type NetUndo } from '#net';
import { VmError } from './error.ts';
import { releaseUid } from './uid.ts';

/**
 * What a VM has on the host, as data: any later process can take it away again. Each is safe to undo twice and safe
 * when its deed never happened.
 */
export type VmUndo =
  /** A mount and the empty directory it covers. */
  | { readonly kind: 'mount'; readonly target: string }
  | { readonly kind: 'directory'; readonly path: string }
  /**
   * A process known by a text among its arguments, which no other VM's process has, and by its program or, where it has
   * one of its own, its user: the program may be a script that started another one.
   */
  | {
      readonly kind: 'process';
      readonly mark: string;
      readonly program: string;
      readonly uid?: number;
    }
  | { readonly kind: 'uid'; readonly file: string; readonly name: string }
  | { readonly kind: 'net'; readonly step: NetUndo };

const schema = v.variant('kind', [
  v.object({ kind: v.literal('mount'), target: v.string() }),
  v.object({ kind: v.literal('directory'), path: v.string() }),
  v.object({
    kind: v.literal('process'),
    mark: v.pipe(v.string(), v.minLength(8)),
    program: v.string(),
    uid: v.exactOptional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  }),
  v.object({ kind: v.literal('uid'), file: v.string(), name: v.string() }),
  v.object({ kind: v.literal('net'), step: v.unknown() }),
]);

/** Decodes one step read back from an undo log. Throws VmError 'destroy' naming what it can't read. */
export function decodeVmUndo(json: unknown): VmUndo {
  const result = v.safeParse(schema, json);
  if (!result.success) {
    const problems = result.issues.map((it) => `${v.getDotPath(it) ?? 'step'}: ${it.message}`);
    throw new VmError('destroy', `undo step can't be read: ${problems.join('; ')}`);
  }
  const step = result.output;
  if (step.kind !== 'net') return step;
  const net = decodeNetUndo(step.step);
  if (net === undefined) throw new VmError('destroy', 'undo step of an unknown network kind');
  return { kind: 'net', step: net };
}

/** Takes one thing away. */
export async function undoStep(
  step: VmUndo,
  networks: { undo(step: NetUndo, waiting: Waiting): Promise<void> },
  waiting: Waiting,
): Promise<void> {
  switch (step.kind) {
    case 'mount':
      unmount(step.target);
      await rm(step.target, { recursive: true, force: true });
      return;
    case 'directory':
      await rm(step.path, { recursive: true, force: true });
      return;
    case 'process':
      await killMarked(step, waiting);
      return;
    case 'uid':
      await releaseUid(step.file, step.name, waiting);
      return;
    case 'net':
      await networks.undo(step.step, waiting);
      return;
    default:
      step satisfies never;
  }
}

/** Leaves alone whoever merely names the mark: a person's `grep`, say. */
async function killMarked(
  { mark, program, uid }: Extract<VmUndo, { kind: 'process' }>,
  waiting: Waiting,
): Promise<void> {
  const real = await realpath(program).catch(() => program);
  for (const identity of await findByMark(mark, [uid ?? 0], waiting)) {
    const exe = await readlink(`/proc/${identity.pid}/exe`).catch(() => '');
    // After an upgrade of the package the kernel says that the running program's file is gone.
    const ours = [program, real].includes(exe.replace(/ \(deleted\)$/, ''));
    if (ours || identity.uid === uid) await kill(identity, waiting);
  }
}
