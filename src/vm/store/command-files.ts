import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { errnoOf } from '#host';

/** A file for each command that may run in the guest, by which the next plugin process knows it. */
export class CommandFiles {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async add(session: string): Promise<void> {
    // Not there in a VM that an earlier release started. Not recursive: the VM may have been removed.
    await mkdir(this.#dir, { mode: 0o700 }).catch(unless('EEXIST'));
    await writeFile(`${this.#dir}/${session}`, '', { mode: 0o600 });
  }

  async remove(session: string): Promise<void> {
    await rm(`${this.#dir}/${session}`, { force: true });
  }

  async sessions(): Promise<readonly string[]> {
    return (await readdir(this.#dir).catch(unless('ENOENT'))) ?? [];
  }
}

function unless(errno: string): (error: unknown) => undefined {
  return (error) => {
    if (errnoOf(error) !== errno) throw error;
    return undefined;
  };
}
