import type { BigIntStats } from 'node:fs';
import { readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import * as v from 'valibot';
import { bootId, closeAside, errnoOf, openAside, writeAtomic } from '#host';
import type { Waiting } from '#spec';
import { digest } from './digest.ts';
import { identityOf } from './identity.ts';

const readOnly = 0;

const schema = v.object({
  version: v.literal(1),
  format: v.picklist(['raw', 'qcow2']),
  virtualBytes: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  fileBytes: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  /** Of the image, as `digest` makes it without holes. */
  content: v.string(),
  /** What it was made of, for operators. */
  source: v.object({
    path: v.string(),
    sha256: v.string(),
    /** Undefined in what older releases stored. */
    bytes: v.exactOptional(v.number()),
    member: v.exactOptional(v.string()),
  }),
});

/** What is known of a stored image. */
export type Stored = v.InferOutput<typeof schema>;

/** One image of the store: a directory that appears with all of its content or not at all. */
export class Entry {
  readonly #store: string;
  readonly key: string;

  constructor(store: string, key: string) {
    this.#store = store;
    this.key = key;
  }

  get dir(): string {
    return `${this.#store}/${this.key}`;
  }

  get image(): string {
    return `${this.dir}/image`;
  }

  get #users(): string {
    return `${this.dir}/users`;
  }

  /** Undefined for an image that is not there, or not whole. */
  async read(): Promise<Stored | undefined> {
    try {
      return v.parse(schema, JSON.parse(await readFile(`${this.dir}/image.json`, 'utf8')));
    } catch (error) {
      const code = errnoOf(error);
      if (code !== undefined && code !== 'ENOENT') throw error;
      return undefined;
    }
  }

  /**
   * Whether the image is what was stored. Its content is compared once after a start of the host, which may be one after a
   * crash, and again when its file is another one or was written to.
   */
  async isIntact({ content, fileBytes }: Stored, waiting: Waiting): Promise<boolean> {
    const marker = `${this.dir}/verified`;
    const stats = await stat(this.image, { bigint: true }).catch(ifMissing);
    if (stats === undefined || Number(stats.size) !== fileBytes) return false;
    const verified = await readFile(marker, 'utf8').catch(() => '');
    if (verified === verifiedMark(stats)) return true;
    const fd = await openAside(this.image, readOnly);
    try {
      const [found] = await digest(
        fd,
        { what: `verifying ${this.image}`, algorithms: ['sha256'], holes: 'skipped' },
        waiting,
      );
      if (found !== content) return false;
    } finally {
      await closeAside(fd);
    }
    await writeAtomic(marker, verifiedMark(stats), { mode: 0o600 });
    return true;
  }

  /** Removes the image, at once for everything that looks for it. */
  async remove(): Promise<void> {
    const gone = `${this.#store}/${goneMark}${this.key}`;
    await rm(gone, { recursive: true, force: true });
    await rename(this.dir, gone).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
    await rm(gone, { recursive: true, force: true });
  }

  /** From now on it is not collected. */
  async lease(user: string): Promise<void> {
    await writeFile(`${this.#users}/${user}`, '', { mode: 0o600 });
  }

  async release(user: string): Promise<void> {
    await rm(`${this.#users}/${user}`, { force: true });
  }

  async users(): Promise<readonly string[]> {
    return (await readdir(this.#users).catch(ifMissing)) ?? [];
  }

  async usage(): Promise<Usage> {
    const [users, { mtimeMs }, { blocks }] = await Promise.all([
      this.users(),
      // It changes with every user that comes or goes.
      stat(this.#users),
      stat(this.image),
    ]);
    return { entry: this, isUsed: users.length > 0, usedMs: mtimeMs, bytes: blocks * 512 };
  }
}

/** Of an image that was found to be what was stored, in this run of the host. */
export function verifiedMark(stats: BigIntStats): string {
  return `${bootId()} ${identityOf(stats)}`;
}

function ifMissing(error: unknown): undefined {
  if (errnoOf(error) !== 'ENOENT') throw error;
}

export interface Usage {
  readonly entry: Entry;
  readonly isUsed: boolean;
  /** When it was last taken into use, or no longer used. */
  readonly usedMs: number;
  readonly bytes: number;
}

/** In front of the name under whose lock it is made. */
export const draftMark = '.new-';
const goneMark = '.gone-';
const keyForm = /^[0-9a-f]{64}$/;

/** What the directory of a store contains: keys of images, and the names of what a killed process left a part of. */
export async function contentsOf(
  store: string,
): Promise<{ readonly keys: readonly string[]; readonly leftovers: ReadonlyMap<string, string> }> {
  const names = (await readdir(store).catch(ifMissing)) ?? [];
  const leftovers = names.flatMap((name) => {
    const mark = [draftMark, goneMark].find((it) => name.startsWith(it));
    return mark === undefined ? [] : [[`${store}/${name}`, name.slice(mark.length)] as const];
  });
  return { keys: names.filter((name) => keyForm.test(name)), leftovers: new Map(leftovers) };
}
