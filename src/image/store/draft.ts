import { fsync } from 'node:fs';
import { mkdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { closeAside, openAside } from '#host';
import { draftMark, type Entry, type Stored, verifiedMark } from './entry.ts';

const sync = promisify(fsync);
const readOnly = 0;
/** Writers stop before a file system has nothing left at all. */
const fullBytes = 1024 * 1024;

/** A directory of the store in which an image is made: it becomes an entry, or is removed. Its name is locked by the caller. */
export class Draft implements AsyncDisposable {
  readonly #store: string;
  readonly #dir: string;

  private constructor(store: string, name: string) {
    this.#store = store;
    this.#dir = `${store}/${draftMark}${name}`;
  }

  /** Empty, whatever a killed process left there. */
  static async begin(store: string, name: string): Promise<Draft> {
    const draft = new Draft(store, name);
    await draft[Symbol.asyncDispose]();
    await mkdir(draft.#dir, { mode: 0o700 });
    return draft;
  }

  /** What the image is made of, and what nothing else can write to. */
  get source(): string {
    return `${this.#dir}/source`;
  }

  get image(): string {
    return `${this.#dir}/image`;
  }

  /** Whether there is no room for it; false where that is not known. */
  async isFull(): Promise<boolean> {
    const room = await statfs(this.#dir).catch(() => undefined);
    return room !== undefined && room.bavail * room.bsize < fullBytes;
  }

  get store(): string {
    return this.#store;
  }

  /** Makes it the entry, which is not there yet: its content is on the disk before its name is. */
  async publish(entry: Entry, stored: Stored): Promise<void> {
    await writeFile(`${this.#dir}/image.json`, JSON.stringify(stored), { mode: 0o600 });
    const verified = verifiedMark(await stat(this.image, { bigint: true }));
    await writeFile(`${this.#dir}/verified`, verified, { mode: 0o600 });
    await mkdir(`${this.#dir}/users`, { mode: 0o700 });
    for (const name of ['image', 'image.json', 'verified', '.']) {
      await syncPath(`${this.#dir}/${name}`);
    }
    await rename(this.#dir, entry.dir);
    await syncPath(this.#store);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true });
  }
}

async function syncPath(path: string): Promise<void> {
  const fd = await openAside(path, readOnly);
  try {
    await sync(fd);
  } finally {
    await closeAside(fd);
  }
}
