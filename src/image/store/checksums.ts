import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import * as v from 'valibot';
import { statAside, writeAtomic } from '#host';
import type { Checksum, Waiting } from '#spec';
import { ImageError } from '../error.ts';
import { type Algorithm, digest } from './digest.ts';
import { identityOf } from './identity.ts';

const schema = v.object({
  sha256: v.exactOptional(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))),
  sha512: v.exactOptional(v.pipe(v.string(), v.regex(/^[0-9a-f]{128}$/))),
});

/** A file that is open for reading. */
export interface NamedFile {
  readonly fd: number;
  readonly path: string;
}

/** How a checksum is waited for. */
export type Checking = Waiting & { readonly onProgress?: (percent: number) => void };

type Known = v.InferOutput<typeof schema>;

/** Files of about 250 bytes. */
const maxKnown = 4096;
/** A file that was written this short a time ago can be written again without another time in its inode. */
const settledMs = 3_000;

/**
 * Checksums of files, each computed once while the file stays as it is: they are kept in a directory, one file each, by
 * device, inode, size and times of the file.
 */
export class Checksums {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** The checksum of all bytes of the file. Throws ImageError, `io` when the file is changed meanwhile. */
  async of(
    file: NamedFile,
    algorithm: Algorithm,
    { onProgress, ...waiting }: Checking,
  ): Promise<string> {
    const known = await this.known(file, algorithm);
    if (known !== undefined) return known;
    const learn = await this.watch(file);
    const options = {
      what: `reading ${file.path}`,
      algorithms: [algorithm],
      holes: 'zeros',
      ...(onProgress && { onProgress }),
    } as const;
    const [hex = ''] = await digest(file.fd, options, waiting);
    await learn(algorithm, hex);
    return hex;
  }

  /** The checksum if it is known without reading the file. */
  async known({ fd }: NamedFile, algorithm: Algorithm): Promise<string | undefined> {
    return (await this.#read(await statAside(fd, { bigint: true })))[algorithm];
  }

  /**
   * For a file that is read from now on. What is returned takes its checksum then: it throws ImageError `io` when the file was
   * changed meanwhile.
   */
  async watch({
    fd,
    path,
  }: NamedFile): Promise<(algorithm: Algorithm, hex: string) => Promise<void>> {
    const before = nameOf(await statAside(fd, { bigint: true }));
    return async (algorithm, hex) => {
      const after = await statAside(fd, { bigint: true });
      if (nameOf(after) !== before) {
        throw new ImageError('io', `${path} changed while it was being read`);
      }
      const known = await this.#read(after);
      if (isSettled(after)) await this.#write(after, { ...known, [algorithm]: hex });
    };
  }

  /** Throws ImageError `refused`, with both sums, for a file of another content. */
  async check(file: NamedFile, { algorithm, hex }: Checksum, waiting: Checking): Promise<void> {
    const found = await this.of(file, algorithm, waiting);
    if (found === hex) return;
    throw new ImageError(
      'refused',
      `${file.path} has the checksum ${algorithm}:${found}, not ${algorithm}:${hex}`,
    );
  }

  /** Forgets the oldest ones beyond a number. */
  async collect(max = maxKnown): Promise<void> {
    const names = await readdir(this.#dir).catch(() => []);
    if (names.length <= max) return;
    const aged = await Promise.all(
      names.map(async (name) => {
        const path = `${this.#dir}/${name}`;
        return { path, ms: (await stat(path).catch(() => undefined))?.mtimeMs ?? 0 };
      }),
    );
    const oldest = aged.toSorted((a, b) => a.ms - b.ms).slice(0, names.length - max);
    for (const { path } of oldest) await rm(path, { force: true });
  }

  async #read(stats: BigIntStats): Promise<Known> {
    try {
      const text = await readFile(`${this.#dir}/${nameOf(stats)}`, 'utf8');
      return v.parse(schema, JSON.parse(text));
    } catch {
      // Missing, or torn by a power cut: computed again.
      return {};
    }
  }

  /** Not to know a checksum is no failure, on a full disk for instance. */
  async #write(stats: BigIntStats, known: Known): Promise<void> {
    try {
      await mkdir(this.#dir, { recursive: true, mode: 0o700 });
      await writeAtomic(`${this.#dir}/${nameOf(stats)}`, JSON.stringify(known), { mode: 0o600 });
    } catch {}
  }
}

function nameOf(stats: BigIntStats): string {
  return createHash('sha256').update(identityOf(stats)).digest('hex');
}

function isSettled({ ctimeMs, mtimeMs }: BigIntStats): boolean {
  const last = ctimeMs > mtimeMs ? ctimeMs : mtimeMs;
  return Date.now() - Number(last) > settledMs;
}
