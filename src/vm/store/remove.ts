import { access, rm, rmdir } from 'node:fs/promises';
import { errnoOf, UndoLog } from '#host';
import { messageOf, VmError } from '../error.ts';
import type { VmHost } from '../vm-host.ts';
import { pathsIn, vmPaths } from './paths.ts';
import { decodeVmUndo, undoStep, type VmUndo } from './undo.ts';

const destroyMs = 60_000;
/** The node's description is one line. */
const mostNamed = 3;

/** Takes VMs off the host, from their undo logs alone, and knows which it could not remove whole. */
export class Remover {
  readonly #host: VmHost;
  /** Directories that task handles named, which with another data_dir are elsewhere. */
  readonly #places = new Map<string, string>();
  readonly #unfinished = new Map<string, string>();

  constructor(host: VmHost) {
    this.#host = host;
  }

  /** VMs whose removal failed, each with the reason: only we will try again, for Nomad ignores what came of it. */
  get unfinished(): ReadonlyMap<string, string> {
    return this.#unfinished;
  }

  /** The same as sentences for the operator. */
  get problems(): readonly string[] {
    const named = [...this.#unfinished.values()].slice(0, mostNamed);
    const others = this.#unfinished.size - named.length;
    return others === 0 ? named : [...named, `and ${others} more VMs`];
  }

  /** Where a VM is that was started with other settings; looked at when it is removed. */
  remember(name: string, dir: string): void {
    this.#places.set(name, dir);
  }

  /** Notes a VM whose removal did not get as far as its undo log. */
  fail(name: string, error: unknown): void {
    this.#unfinished.set(name, messageOf(error));
  }

  /**
   * Undoes what the VM's log names and removes its directory; fine when there is none. Throws VmError naming
   * what could not be undone.
   */
  async remove(name: string): Promise<void> {
    const { dataDir, runDir } = this.#host;
    const { dir } = vmPaths(name, dataDir, runDir);
    try {
      for (const place of new Set([dir, this.#places.get(name) ?? dir]))
        await this.#undo(name, place);
    } catch (error) {
      this.fail(name, error);
      throw error;
    }
    this.#unfinished.delete(name);
    this.#places.delete(name);
    // Other VMs' directories keep it; the last one takes it along.
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
    throw new VmError('host', `VM ${name} was not removed whole: ${problems.join('; ')}`, {
      recoverable: true,
    });
  }

  async #rollBack(name: string, dir: string): Promise<readonly string[]> {
    const { networks, log } = this.#host;
    const undo = await UndoLog.reopen<VmUndo>(
      pathsIn(dir, { name, run: '' }).undo,
      (step, waiting) => undoStep(step, networks, waiting),
      { decode: decodeVmUndo, log },
    );
    const { failed } = await undo.keep().rollback({ signal: AbortSignal.timeout(destroyMs) });
    return failed.map(({ step, error }) => `${step.kind}: ${messageOf(error)}`);
  }
}

/** A disk that can't be read, or a host without memory, has lost nothing. */
export async function isGone(path: string): Promise<boolean> {
  try {
    await access(path);
    return false;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return true;
    throw error;
  }
}
