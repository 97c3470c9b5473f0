import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  bindDirectory,
  closeFd,
  findProgram,
  identify,
  mountTmpfs,
  type ProcessIdentity,
  spawnDetached,
  UndoLog,
} from '#host';
import { ImageStore } from '#image';

import { Networks } from '#net';
import { vmPaths } from '../../src/vm/store/paths.ts';
import { Remover } from '../../src/vm/store/remove.ts';
import { claimUid } from '../../src/vm/store/uid.ts';
import { decodeVmUndo, undoStep, type VmUndo } from '../../src/vm/store/undo.ts';
import type { VmHost } from '../../src/vm/vm-host.ts';
import { command, inOwnNetns } from '../support/netns.ts';
import { built, leftovers, tapOf, virbr0, waiting } from '../support/networks.ts';
import { type DiskKind, diskKinds, SmallDisk } from '../support/small-disk.ts';
import { collect, uidRange } from '../support/vm.ts';

/** A client whose data_dir is on a small disk, with all that a VM has on the host but a guest. */
class Place implements AsyncDisposable {
  readonly disk: SmallDisk;
  readonly host: VmHost;
  readonly paths;
  readonly #root: string;
  #process: ProcessIdentity | undefined;

  private constructor(root: string, disk: SmallDisk) {
    const dataDir = join(disk.path, 'data');
    const log = collect([]);
    const nft = findProgram('nft') ?? 'nft';
    const networks = Networks.open({
      stateDir: join(dataDir, 'networks'),
      managed: [virbr0],
      bridges: [],
      maxConnections: 8192,
      nft,
      log,
    });
    this.#root = root;
    this.disk = disk;
    const runDir = join(root, 'run');
    const settings = {
      imagePaths: [],
      uidRange,
      maxImageBytes: 2 ** 40,
      pools: { pools: [], default: undefined },
      images: new ImageStore({ dir: join(dataDir, 'image-store'), maxBytes: 0, log }),
    };
    this.host = { dataDir, runDir, networks, log, ...settings };
    this.paths = vmPaths('vm-0', dataDir, runDir);
  }

  static async open(kind: DiskKind): Promise<Place> {
    const root = mkdtempSync(join(tmpdir(), 'nq-disk-'));
    return new Place(root, await SmallDisk.mount(kind, root));
  }

  /** In the order of a start. Returns the number of steps that undo it. */
  async fill(): Promise<number> {
    const { paths, host } = this;
    mkdirSync(paths.dir, { recursive: true });
    const undo = (await this.#log(() => {})).keep();
    await undo.perform({ kind: 'mount', target: paths.run }, () => {
      mkdirSync(paths.run, { recursive: true });
      mountTmpfs(paths.run, { sizeBytes: 2 ** 20, mode: 0o700 });
    });
    const uid = await claimUid(
      'vm-0',
      { dir: `${host.dataDir}/uids`, range: uidRange },
      (file, make) => undo.perform({ kind: 'uid', file, name: 'vm-0' }, make),
      waiting(),
    );
    const ports = [{ label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 }];
    const nic = await built(
      host.networks,
      { kind: 'bridge', vm: 'vm-0', index: 0, bridge: 'virbr0', ports, hostname: 'guest' },
      { perform: (step, action) => undo.perform({ kind: 'net', step }, action) },
    );
    const share = join(paths.shares, 'localDir');
    await undo.perform({ kind: 'mount', target: share }, () => {
      mkdirSync(share, { recursive: true });
      bindDirectory(this.#root, share, { writable: false });
    });
    await this.#spawn(undo, { uid, tapFd: tapOf(nic).fd });
    await this.#padTo4KiB(undo);
    writeFileSync(paths.disk, '');
    return undo.steps.length;
  }

  async #spawn(undo: UndoLog<VmUndo>, o: { uid: number; tapFd: number }): Promise<void> {
    const { dir } = this.paths;
    const program = findProgram('tail') ?? 'tail';
    const { identity } = await undo.perform(
      { kind: 'process', mark: dir, program, uid: o.uid },
      () =>
        spawnDetached({
          program,
          args: ['-f', '/dev/null', dir],
          uid: o.uid,
          gid: o.uid,
          stdio: ['ignore', 'ignore', 'ignore', o.tapFd],
        }),
    );
    closeFd(o.tapFd);
    this.#process = identity;
  }

  /** So that the next line of the log needs another block, however large they are. */
  async #padTo4KiB(undo: UndoLog<VmUndo>): Promise<void> {
    const step = { kind: 'process', mark: 'of nothing that runs', program: '/' } as const;
    const line = JSON.stringify({ do: step }).length + 1;
    const missing = 4096 - ((statSync(this.paths.undo).size + line) % 4096) - 4;
    await undo.note({ ...step, program: `/${'x'.repeat((missing + 4096) % 4096)}` });
  }

  /** A removal in whose way something comes at each step. */
  async rollBack(atStep: (number: number) => void): Promise<void> {
    await (await this.#log(atStep)).rollback(waiting());
  }

  async #log(atStep: (number: number) => void): Promise<UndoLog<VmUndo>> {
    let number = 0;
    const undo = async (step: VmUndo, limit: { signal: AbortSignal }): Promise<void> => {
      number += 1;
      atStep(number);
      await undoStep(step, this.host, limit);
    };
    const options = { decode: decodeVmUndo, log: this.host.log };
    const open = existsSync(this.paths.undo) ? UndoLog.reopen : UndoLog.open;
    return await open<VmUndo>(this.paths.undo, undo, options);
  }

  /** As the next plugin process does it. */
  async remove(): Promise<void> {
    await new Remover(this.host).remove('vm-0');
  }

  /** What the VM has that is not on its disk. */
  async onHost(): Promise<readonly string[]> {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
    const { links } = await leftovers();
    const rules = (await command('nft', 'list', 'ruleset')).output;
    return [
      ...links,
      ...(rules.includes('8080') ? ['published port'] : []),
      ...(mounts.includes(this.host.runDir) ? ['mount'] : []),
      ...(this.#process && identify(this.#process.pid) ? ['process'] : []),
      ...(existsSync(this.paths.run) ? ['run directory'] : []),
    ];
  }

  onDisk(): readonly string[] {
    return ['vms', 'uids', 'networks']
      .flatMap((it) => readdirSync(join(this.host.dataDir, it)))
      .filter((it) => it !== 'lock');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host.networks[Symbol.asyncDispose]();
    await this.disk[Symbol.asyncDispose]();
    rmSync(this.#root, { recursive: true });
  }
}

const refuse = (): never => {
  throw new Error('something is in the way');
};

/** A removal that gets no further than this step, and one that fails in a step of what is left. */
async function hinder(place: Place, step: number): Promise<void> {
  await place.rollBack((number) => number >= step && refuse());
  await place.rollBack((number) => number === Math.ceil(step / 2) && refuse());
}

inOwnNetns(
  import.meta.url,
  ['ip', 'nft', 'mount', 'fallocate', 'mkfs.ext4', 'mkfs.xfs', 'mkfs.btrfs'],
  () => {
    for (const kind of diskKinds) {
      test(`V-91 D15: from a full ${kind} a VM is removed, wherever its removal was held up`, async () => {
        await using place = await Place.open(kind);
        for (let [step, steps] = [1, 1]; step <= steps; step += 1) {
          steps = await place.fill();
          place.disk.fill(place.paths.disk);
          await hinder(place, step);
          await place.remove();
          assert.deepEqual(await place.onHost(), [], `step ${step}`);
          assert.deepEqual(place.onDisk(), [], `step ${step}`);
        }
      });

      test(`V-91 D15: from a read-only ${kind} a VM is removed but for its files, which go later`, async () => {
        await using place = await Place.open(kind);
        for (let [step, steps] = [1, 1]; step <= steps; step += 1) {
          steps = await place.fill();
          await place.disk.setReadOnly(true);
          await hinder(place, step);
          await assert.rejects(place.remove(), /VM vm-0 was not removed completely: .*EROFS/);
          assert.deepEqual(await place.onHost(), [], `step ${step}`);
          assert.deepEqual(place.onDisk().includes('vm-0'), true);
          await place.disk.setReadOnly(false);
          await place.remove();
          assert.deepEqual(place.onDisk(), [], `step ${step}`);
        }
      });
    }
  },
  280_000,
);
