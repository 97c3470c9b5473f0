import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, lockFile, type Waiting, writeAtomic } from '#host';
import { parseIpv4 } from '#spec';
import {
  type Claim,
  decodeClaim,
  decodeNetwork,
  encodeClaim,
  type NetworkInUse,
  type NetworkRecord,
} from './claim.ts';
import { NetError } from './error.ts';

const recordFile = 'network.json';

/**
 * The networks' state on disk: `<stateDir>/<bridge>/network.json`, and beside it one file per claimed address, named
 * by it. Whoever changes any of it, or the host according to it, holds the lock.
 */
export class NetworkStore {
  readonly #dir: string;
  /** Claims that were given up and whose files a read-only disk keeps. */
  readonly #dropped = new Set<string>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** One at a time, across processes. Released when disposed, or when the process dies. */
  async lock(waiting: Waiting): Promise<AsyncDisposable> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    return lockFile(join(this.#dir, 'lock'), waiting);
  }

  async networks(): Promise<readonly NetworkInUse[]> {
    const entries = await namesIn(this.#dir);
    const found = await Promise.all(
      entries.map(async (bridge) => {
        const record = await this.record(bridge);
        return record === undefined ? [] : [{ record, claims: await this.claims(bridge) }];
      }),
    );
    return found.flat();
  }

  async record(bridge: string): Promise<NetworkRecord | undefined> {
    const text = await textOf(join(this.#dir, bridge, recordFile));
    return text === undefined ? undefined : decodeNetwork(text);
  }

  async keepRecord(record: NetworkRecord): Promise<void> {
    const dir = join(this.#dir, record.bridge);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    // Under the lock nobody else writes here: what begins with a dot is of a process that was killed while it did.
    const drafts = (await namesIn(dir)).filter((name) => name.startsWith('.'));
    await Promise.all(drafts.map((name) => rm(join(dir, name), { force: true })));
    const path = join(dir, recordFile);
    await writeAtomic(path, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  }

  /** In the order of their addresses' text; [] for a network that isn't in use. */
  async claims(bridge: string): Promise<readonly Claim[]> {
    const names = (await namesIn(join(this.#dir, bridge))).filter(
      (name) => parseIpv4(name) !== undefined && !this.#dropped.has(join(bridge, name)),
    );
    const found = await Promise.all(names.toSorted().map((ip) => this.claim(bridge, ip)));
    return found.filter((claim) => claim !== undefined);
  }

  async claim(bridge: string, ip: string): Promise<Claim | undefined> {
    const text = await textOf(join(this.#dir, bridge, ip));
    return text === undefined ? undefined : decodeClaim(ip, text);
  }

  /** Takes the address, or renews the claim the same NIC has on it. */
  async keepClaim(bridge: string, claim: Claim): Promise<void> {
    const key = join(bridge, claim.ip);
    const holder = this.#dropped.has(key) ? undefined : await this.claim(bridge, claim.ip);
    if (holder !== undefined && (holder.vm !== claim.vm || holder.index !== claim.index)) {
      throw new NetError(
        'address',
        `VM ${claim.vm}: address ${claim.ip} on ${bridge} was taken by VM ${holder.vm}`,
      );
    }
    await writeAtomic(join(this.#dir, bridge, claim.ip), encodeClaim(claim), { mode: 0o600 });
    this.#dropped.delete(key);
  }

  /** Also when its file can't be removed, the claim counts no more in this process. */
  async dropClaim(bridge: string, ip: string): Promise<void> {
    const key = join(bridge, ip);
    this.#dropped.add(key);
    await rm(join(this.#dir, key), { force: true });
    this.#dropped.delete(key);
  }

  async dropNetwork(bridge: string): Promise<void> {
    await rm(join(this.#dir, bridge), { recursive: true, force: true });
  }
}

async function namesIn(dir: string): Promise<readonly string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return /^(ENOENT|ENOTDIR)$/.test(errnoOf(error) ?? '');
}
