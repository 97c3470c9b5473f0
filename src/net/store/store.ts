import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { lockFile, writeAtomic } from '#host';
import { parseIpv4, type Waiting } from '#spec';
import { NetError } from '../model/error.ts';
import {
  type Claim,
  decodeClaim,
  decodeNetwork,
  encodeClaim,
  type NetworkInUse,
  type NetworkRecord,
} from './claim.ts';
import { DecodedFiles, isMissing } from './decoded-files.ts';

/** Of the network itself, beside those of its addresses. */
export const recordFile = 'network.json';

const lockName = 'lock';

/** What the files of a network have, as far as they can be read. */
interface NetworkFiles {
  readonly bridge: string;
  readonly record: NetworkRecord | undefined;
  /** Sorted by the text of their addresses. */
  readonly claims: readonly Claim[];
  /** Names of those that can't be read: empty after a power cut, or not ours. */
  readonly damaged: readonly string[];
}

/**
 * The networks' state on disk: `<stateDir>/<bridge>/network.json`, and beside it one file per claimed address, named
 * by it. Changing any of it, or the host according to it, requires the lock.
 */
export class NetworkStore {
  readonly #dir: string;
  readonly #records = new DecodedFiles(decodeNetwork);
  readonly #claims = new DecodedFiles((text, ip) => decodeClaim(ip, text));
  /** Claims that were given up and whose files a read-only disk keeps. */
  readonly #dropped = new Set<string>();

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Exclusive across processes. Released when disposed, or when the process dies. */
  async lock(waiting: Waiting): Promise<AsyncDisposable> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    return lockFile(join(this.#dir, lockName), waiting);
  }

  async networks(): Promise<readonly NetworkInUse[]> {
    const all = await this.files();
    return all.flatMap(({ record, claims }) => (record === undefined ? [] : [{ record, claims }]));
  }

  /** Of all networks, damaged ones too. */
  async files(): Promise<readonly NetworkFiles[]> {
    return Promise.all((await this.#bridges()).map((bridge) => this.#filesOf(bridge)));
  }

  /** Those of all networks, without a look at their claims. */
  async records(): Promise<readonly NetworkRecord[]> {
    const all = await Promise.all((await this.#bridges()).map((bridge) => this.record(bridge)));
    return all.filter((record) => record !== undefined);
  }

  async #bridges(): Promise<readonly string[]> {
    return (await namesIn(this.#dir)).filter((name) => name !== lockName);
  }

  path(bridge: string, name: string): string {
    return join(this.#dir, bridge, name);
  }

  /** Names of the network's files that can't be read: empty after a power cut, or not ours. */
  async damaged(bridge: string): Promise<readonly string[]> {
    return (await this.#filesOf(bridge)).damaged;
  }

  /** Whether an address of it has a file, be it damaged. */
  async isClaimed(bridge: string): Promise<boolean> {
    return (await namesIn(join(this.#dir, bridge))).some((name) => this.#isClaim(bridge, name));
  }

  async record(bridge: string): Promise<NetworkRecord | undefined> {
    return this.#records.read(join(this.#dir, bridge, recordFile));
  }

  async keepRecord(record: NetworkRecord): Promise<void> {
    await mkdir(join(this.#dir, record.bridge), { recursive: true, mode: 0o700 });
    await this.#write(record.bridge, recordFile, `${JSON.stringify(record)}\n`);
  }

  /** Sorted by the text of their addresses; [] for a network that is not in use. */
  async claims(bridge: string): Promise<readonly Claim[]> {
    return (await this.#filesOf(bridge)).claims;
  }

  /** When a claim of the network last came or went, by the clock of its files; undefined for one that is not in use. */
  async changedAtNs(bridge: string): Promise<bigint | undefined> {
    try {
      return (await stat(join(this.#dir, bridge), { bigint: true })).mtimeNs;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async claim(bridge: string, ip: string): Promise<Claim | undefined> {
    return this.#claims.read(join(this.#dir, bridge, ip));
  }

  /** Claims the address, or renews the claim that the same NIC has on it. */
  async keepClaim(bridge: string, claim: Claim): Promise<void> {
    const key = join(bridge, claim.ip);
    const holder = this.#dropped.has(key) ? undefined : await this.claim(bridge, claim.ip);
    if (holder !== undefined && (holder.vm !== claim.vm || holder.index !== claim.index)) {
      throw new NetError(
        'host',
        `VM ${claim.vm}: address ${claim.ip} on ${bridge} was taken by VM ${holder.vm}`,
      );
    }
    await this.#write(bridge, claim.ip, encodeClaim(claim));
    this.#dropped.delete(key);
  }

  /** Even when its file can't be removed, this process ignores the claim from now on. */
  async dropClaim(bridge: string, ip: string): Promise<void> {
    const key = join(bridge, ip);
    this.#dropped.add(key);
    await rm(join(this.#dir, key), { force: true });
    this.#dropped.delete(key);
  }

  async dropNetwork(bridge: string): Promise<void> {
    await rm(join(this.#dir, bridge), { recursive: true, force: true });
  }

  async #filesOf(bridge: string): Promise<NetworkFiles> {
    const names = await namesIn(join(this.#dir, bridge));
    const ips = names.filter((name) => this.#isClaim(bridge, name)).toSorted();
    const record = await this.record(bridge);
    const claims = await Promise.all(ips.map((ip) => this.claim(bridge, ip)));
    const damaged = ips.filter((_, index) => claims[index] === undefined);
    if (record === undefined && names.includes(recordFile)) damaged.push(recordFile);
    return { bridge, record, claims: claims.filter((claim) => claim !== undefined), damaged };
  }

  #isClaim(bridge: string, name: string): boolean {
    return parseIpv4(name) !== undefined && !this.#dropped.has(join(bridge, name));
  }

  async #write(bridge: string, name: string, text: string): Promise<void> {
    const dir = join(this.#dir, bridge);
    // The lock makes this the only writer: names that begin with a dot are of a process that was killed while it wrote.
    const drafts = (await namesIn(dir)).filter((found) => found.startsWith('.'));
    await Promise.all(drafts.map((draft) => rm(join(dir, draft), { force: true })));
    await writeAtomic(join(dir, name), text, { mode: 0o600 });
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
