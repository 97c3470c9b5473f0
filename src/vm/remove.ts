import { access, rm, rmdir } from 'node:fs/promises';
import { UndoLog } from '#host';
import type { VmHost } from './deps.ts';
import { messageOf, VmError } from './error.ts';
import { pathsIn, vmPaths } from './paths.ts';
import { decodeVmUndo, undoStep, type VmUndo } from './undo.ts';

const destroyMs = 60_000;

/** Takes VMs off the host, from their undo logs alone, and knows which it could not remove whole. */
export class Remover {
  readonly #host: VmHost;
  /** Directories that task handles named, which with another data_dir are elsewhere. */
  readonly #places = new Map<string, string>();
  readonly #unfinished = new Set<string>();

  constructor(host: VmHost) {
    this.#host = host;
  }

  /** VMs whose removal failed: nobody but us will try again, for Nomad does not look at what came of it. */
  get unfinished(): ReadonlySet<string> {
    return this.#unfinished;
  }

  /** Where a VM is that was started with other settings; looked at when it is removed. */
  remember(name: string, dir: string): void {
    this.#places.set(name, dir);
  }

  /**
   * Undoes what the VM's log names and removes its directory; fine when there is none. Throws VmError 'destroy' naming
   * what could not be undone.
   */
  async remove(name: string): Promise<void> {
    const { dataDir, runDir } = this.#host;
    const { dir } = vmPaths(name, dataDir, runDir);
    this.#unfinished.add(name);
    for (const place of new Set([dir, this.#places.get(name) ?? dir]))
      await this.#undo(name, place);
    this.#unfinished.delete(name);
    this.#places.delete(name);
    // Other VMs' directories keep it; the last one takes it along.
    await rmdir(runDir).catch(() => {});
  }

  async #undo(name: string, dir: string): Promise<void> {
    if (!(await exists(dir))) return;
    const { networks, log } = this.#host;
    const undo = await UndoLog.open<VmUndo>(
      pathsIn(dir, { name, run: '' }).undo,
      (step, waiting) => undoStep(step, networks, waiting),
      { decode: decodeVmUndo, log },
    );
    const { failed } = await undo.keep().rollback({ signal: AbortSignal.timeout(destroyMs) });
    if (failed.length > 0) {
      const problems = failed.map(({ step, error }) => `${step.kind}: ${messageOf(error)}`);
      throw new VmError('destroy', `VM ${name} was not removed whole: ${problems.join('; ')}`, {
        recoverable: true,
      });
    }
    await rm(dir, { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
