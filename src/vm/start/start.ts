import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { mountTmpfs, UndoLog } from '#host';
import { imageHandler, type OpenImage } from '#image';
import type { AttachedNic } from '#net';
import type { VmSpec, Waiting } from '#spec';
import { allowedFiles } from '../devices/allowed-files.ts';
import { makeDisk, makeFirmware } from '../devices/disks.ts';
import { Descriptors } from '../devices/files.ts';
import { planFirmware } from '../devices/firmware.ts';
import { makeSeed, type SeedParts } from '../devices/seed.ts';
import { openShares, type PreparedShare, prepareShare, shareTools } from '../devices/shares.ts';
import { allProblems, inWords, messageOf } from '../error.ts';
import type { Machine } from '../live/machine.ts';
import type { GuestStory } from '../live/task-events.ts';
import { journalBytes } from '../logs/journal.ts';
import { type VmPaths, vmPaths } from '../store/paths.ts';
import { claimUid } from '../store/uid.ts';
import { decodeVmUndo, undoStep, type VmUndo } from '../store/undo.ts';
import type { Accelerated, VmHost } from '../vm-host.ts';
import { launch } from './boot.ts';
import { consoleHistoryBytes, planProblems, planVm } from './plan.ts';

export interface StartRequest {
  readonly spec: VmSpec;
  readonly host: VmHost;
  readonly accelerated: Accelerated;
  readonly tell: (story: GuestStory) => void;
}

/** Room on the VM's tmpfs for everything but history and seed: sockets, marks, QEMU's own messages. */
const tmpfsSlackBytes = 256 * 1024;

/** It has some twenty. */
const tmpfsFiles = 128;

/**
 * Starts a VM: everything it needs on this host is written into its undo log, then made, then QEMU runs. When any of
 * it fails, the caller removes the VM, as one that runs: from its undo log.
 */
export async function startVm(request: StartRequest, waiting: Waiting): Promise<Machine> {
  const { spec, host } = request;
  const paths = vmPaths(spec.name, host.dataDir, host.runDir);
  const { image: opened, seed } = await examine(request, waiting);
  using image = opened;
  await inWords('host', () => makeDirectory(paths));
  const undo = await UndoLog.open<VmUndo>(
    paths.undo,
    (step, rollback) => undoStep(step, host.networks, rollback),
    { decode: decodeVmUndo, log: host.log },
  );
  return await build(request, { paths, undo: undo.keep(), image, seed }, waiting);
}

/** What a look at a VM's files and at its machine depends on. */
export interface Question {
  readonly spec: VmSpec;
  readonly host: Pick<VmHost, 'dataDir' | 'runDir' | 'imagePaths' | 'maxImageBytes'>;
  readonly accelerated: Accelerated;
}

/** Everything wrong with what a VM is asked for, as far as it shows before anything is made; [] when nothing is. */
export async function findProblems(
  question: Question,
  waiting: Waiting,
): Promise<readonly string[]> {
  const { image, problems } = await look(question, waiting);
  image?.[Symbol.dispose]();
  return problems.map(messageOf);
}

/** Looks at everything the job names before anything is made. Throws one VmError with all that is wrong. */
async function examine(
  question: Question,
  waiting: Waiting,
): Promise<{ readonly image: OpenImage; readonly seed: SeedParts }> {
  const { image, seed, problems } = await look(question, waiting);
  if (problems.length === 0 && image !== undefined && seed !== undefined) return { image, seed };
  image?.[Symbol.dispose]();
  throw allProblems(problems);
}

async function look(
  { spec, host, accelerated }: Question,
  waiting: Waiting,
): Promise<{
  readonly image: OpenImage | undefined;
  readonly seed: SeedParts | undefined;
  readonly problems: readonly unknown[];
}> {
  const files = allowedFiles(spec, host);
  const limit = { maxVirtualBytes: host.maxImageBytes };
  const [opened, made] = await Promise.allSettled([
    inWords(
      'image',
      () => imageHandler.getImageFormat(spec.disk.image, files, limit, waiting),
      'image',
    ),
    inWords('seed', () => makeSeed(spec, files, waiting)),
  ]);
  const image = opened.status === 'fulfilled' ? opened.value : undefined;
  const { emulator, kvm } = accelerated;
  return {
    image,
    seed: made.status === 'fulfilled' ? made.value : undefined,
    problems: [
      ...[opened, made].flatMap((it) => (it.status === 'rejected' ? [it.reason] : [])),
      ...planProblems(spec, { emulator, kvm: kvm.usable, image }),
    ],
  };
}

interface Parts {
  readonly paths: VmPaths;
  readonly undo: UndoLog<VmUndo>;
  readonly image: OpenImage;
  readonly seed: SeedParts;
}

async function build(request: StartRequest, parts: Parts, waiting: Waiting): Promise<Machine> {
  const { spec, host, accelerated, tell } = request;
  const { paths, undo, image, seed } = parts;
  using fds = new Descriptors();
  await inWords('host', () => makeRunDirectory(paths, undo, seed.largestBytes));
  const uid = await claimUid(
    spec.name,
    { dir: `${host.dataDir}/uids`, range: host.uidRange },
    (file, make) => undo.perform({ kind: 'uid', file, name: spec.name }, make),
    waiting,
  );
  const [nics, shares] = await both(
    inWords('network', () => attachNics(request, undo, fds, waiting)),
    prepareShares(request, { ...parts, uid }, fds, waiting),
  );
  const plan = planVm(
    spec,
    {
      emulator: accelerated.emulator,
      kvm: accelerated.kvm.usable,
      image,
      firmware: await planFirmware(spec, accelerated.emulator, image),
      nics,
      shares: shares.map((it) => it.plan),
    },
    paths,
  );
  if (plan.disk.kind === 'copy')
    tell({ message: 'Copying the image', annotations: { image: image.path } });
  await inWords('image', () => makeDisk(plan.disk, image, fds, waiting));
  await inWords('image', () => makeFirmware(plan, fds));
  const notes = await inWords('seed', () =>
    seed.write(paths.seed, { nics, shares: shares.map((it) => it.plan) }, fds, waiting),
  );
  for (const message of notes) tell({ message, annotations: {} });
  return await launch(
    { request, plan, undo, uid, nics, shares, fds, imagePath: image.path },
    waiting,
  );
}

async function makeDirectory(paths: VmPaths): Promise<void> {
  await mkdir(dirname(paths.dir), { recursive: true, mode: 0o700 });
  await mkdir(paths.dir, { mode: 0o700 });
}

async function makeRunDirectory(
  paths: VmPaths,
  undo: UndoLog<VmUndo>,
  seedBytes: number,
): Promise<void> {
  await undo.perform({ kind: 'mount', target: paths.run }, async () => {
    // Shared by all VMs: a QEMU that serves directories over 9p has to get through it.
    await mkdir(dirname(paths.run), { recursive: true, mode: 0o711 });
    await mkdir(paths.run, { recursive: true, mode: 0o700 });
    const sizeBytes = consoleHistoryBytes + journalBytes + seedBytes + tmpfsSlackBytes;
    mountTmpfs(paths.run, { sizeBytes, mode: 0o700, maxFiles: tmpfsFiles });
  });
}

async function attachNics(
  { spec, host, tell }: StartRequest,
  undo: UndoLog<VmUndo>,
  fds: Descriptors,
  waiting: Waiting,
): Promise<readonly AttachedNic[]> {
  const attached: AttachedNic[] = [];
  for (const [index, nic] of spec.nics.entries()) {
    const { bridge, ports } = nic;
    const request = { vm: spec.name, index, bridge, ports, hostname: spec.guest.hostname };
    const done = await host.networks.vmStartedBuild(
      request,
      { perform: (step, action) => undo.perform({ kind: 'net', step }, action) },
      waiting,
    );
    fds.add(`tap${index}`, done.backend.fd);
    attached.push(done);
    tell({
      message:
        done.address === undefined
          ? `Joined bridge ${bridge}`
          : `Address ${done.address.ip} on ${bridge}`,
      annotations: { mac: done.mac, tap: done.backend.name },
    });
  }
  return attached;
}

async function prepareShares(
  { spec, host, accelerated, tell }: StartRequest,
  { paths, undo, uid }: Parts & { readonly uid: number },
  fds: Descriptors,
  waiting: Waiting,
): Promise<readonly PreparedShare[]> {
  if (spec.shares.length === 0) return [];
  const tools = await shareTools(accelerated.emulator, waiting);
  if (tools.kind === 'none') {
    tell({ message: `No shared directories in the guest: ${tools.reason}`, annotations: {} });
    return [];
  }
  if (tools.reason !== '')
    tell({ message: `Directories are shared over 9p: ${tools.reason}`, annotations: {} });
  await openShares(paths, tools.kind === '9p' ? uid : 0);
  const shared = await Promise.all(
    spec.shares.map((share) =>
      prepareShare(share, { tools, paths, allocDir: spec.allocDir, undo, log: host.log }),
    ),
  );
  const prepared = shared.filter((it) => it !== undefined);
  for (const [index, { fd }] of prepared.entries()) {
    if (fd !== undefined) fds.add(`share${index}`, fd);
  }
  for (const [index, share] of spec.shares.entries()) {
    if (shared[index] !== undefined) continue;
    tell({
      message: `Directory not shared with the guest: ${share.target}`,
      annotations: { source: share.source },
    });
  }
  return prepared;
}

/** Two pieces of work at once. Waits for both even when one fails: what is still being made can't be undone yet. */
async function both<A, B>(first: Promise<A>, second: Promise<B>): Promise<readonly [A, B]> {
  await Promise.allSettled([first, second]);
  return [await first, await second];
}
