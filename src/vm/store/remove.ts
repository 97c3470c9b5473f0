import { access, rm, rmdir } from 'node:fs/promises';
import { errnoOf, UndoLog, within } from '#host';
import { messageOf, VmError } from '../error.ts';
import type { VmHost } from '../vm-host.ts';
import { pathsIn, vmPaths } from './paths.ts';
import { decodeVmUndo, undoStep, type VmUndo } from './undo.ts';

const destroyMs = 60_000;
/** The node's description is one line. */
const maxNamed = 3;

/**
 * Removes VMs from the host, from their undo logs alone, and keeps the list of those that it could not remove
 * completely.
 */
export class Remover {
  readonly #host: VmHost;
  /** Directories from task handles: after a change of data_dir they are outside of it. */
  readonly #knownDirs = new Map<string, string>();
  readonly #unfinished = new Map<string, string>();

  constructor(host: VmHost) {
    this.#host = host;
  }

  /** VMs whose removal failed, each with the cause: the plugin itself must retry, because Nomad ignores the failure. */
  get unfinished(): ReadonlyMap<string, string> {
    return this.#unfinished;
  }

  /** The same as sentences for the operator. */
  get problems(): readonly string[] {
    const named = [...this.#unfinished.values()].slice(0, maxNamed);
    const others = this.#unfinished.size - named.length;
    return others === 0 ? named : [...named, `and ${others} more VMs`];
  }

  /** Notes the directory of a VM that was started with other settings, for its removal. */
  remember(name: string, dir: string): void {
    this.#knownDirs.set(name, dir);
  }

  /** Notes a VM whose removal failed, also before its undo log was reached. */
  fail(name: string, error: unknown): void {
    this.#unfinished.set(name, messageOf(error));
  }

  /**
   * Undoes every step of the VM's undo log and removes its directory; does nothing when there is none. Throws VmError
   * naming the steps that could not be undone.
   */
  async remove(name: string): Promise<void> {
    const { dataDir, runDir } = this.#host;
    const { dir } = vmPaths(name, dataDir, runDir);
    try {
      for (const known of new Set([dir, this.#knownDirs.get(name) ?? dir]))
        await this.#undo(name, known);
    } catch (error) {
      this.fail(name, error);
      throw error;
    }
    this.#unfinished.delete(name);
    this.#knownDirs.delete(name);
    // Fails while other VMs have their directories in it.
    await rmdir(runDir).catch(() => {});
  }

  async #undo(name: string, dir: string): Promise<void> {
    const problems: string[] = [];
    try {
      if (await isGone(dir)) return;
      problems.push(...(await this.#rollBack(name, dir)));
      if (problems.length === 0) await rm(dir, { recursive: true, force: true });
    } catch (error) {
      problems.push(messageOf(error));
    }
    if (problems.length === 0) return;
    throw new VmError('host', `VM ${name} was not removed completely: ${problems.join('; ')}`, {
      recoverable: true,
    });
  }

  async #rollBack(name: string, dir: string): Promise<readonly string[]> {
    const { log } = this.#host;
    const undo = await UndoLog.reopen<VmUndo>(
      pathsIn(dir, { name, run: '' }).undo,
      (step, waiting) => undoStep(step, this.#host, waiting),
      { decode: decodeVmUndo, log },
    );
    using limited = within(destroyMs);
    const { failed } = await undo.keep().rollback(limited);
    return failed.map(({ step, error }) => `${step.kind}: ${messageOf(error)}`);
  }
}

/**
 * Whether the path does not exist. Throws where that can't be determined: a disk with errors, a host without memory.
 */
export async function isGone(path: string): Promise<boolean> {
  try {
    await access(path);
    return false;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return true;
    throw error;
  }
}
