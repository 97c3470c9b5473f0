import { readFile } from 'node:fs/promises';
import { KeyedQueue, type Logger, type ProcessIdentity, within } from '#host';
import { type QmpClient, QmpError, removeForeignFiles } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, notConnected, VmError } from '../error.ts';
import type { AgentLine } from '../guest/agent/agent-line.ts';
import { allocateOpen } from '../store/allocate.ts';
import type { RecordedDisk } from '../store/device-record.ts';
import type { VmPaths } from '../store/paths.ts';
import { disksOf, type VmRecord, writeRecord } from '../store/record.ts';
import type { Emit } from '../task-event.ts';
import { backUp, endForeignBackup } from './backup.ts';
import { ControlSocket } from './control-socket.ts';
import { diskNamed, growthRemedy, planGrowth, shownNode } from './disk-growth.ts';
import { reconnect } from './nbd-connection.ts';
import type { ControlRequest } from './request.ts';
import { saveScreenshot } from './screenshot.ts';

const resizeMs = 60_000;
const recoverMs = 15_000;

/** What of a live VM operators reach. */
export interface ControlledVm {
  readonly record: VmRecord;
  /** Of QEMU. */
  readonly identity: ProcessIdentity;
  readonly paths: Pick<VmPaths, 'control' | 'record' | 'undo' | 'backup'>;
  /** Maximum size of a disk. */
  readonly maxDiskBytes: number;
  /** Called with the maximum length of a file before QEMU makes it that long. */
  readonly onFileGrowth: (bytes: number) => void;
  readonly qmp: () => QmpClient | undefined;
  readonly agent: AgentLine;
  readonly emit: Emit;
  readonly log: Logger;
}

/** What operators ask of one VM while it runs: changes to its disks, and what its screen shows. */
export class OperatorControl implements Disposable {
  readonly #vm: ControlledVm;
  readonly #socket: ControlSocket | undefined;
  readonly #queue = new KeyedQueue();
  readonly #over = new AbortController();
  #record: VmRecord;

  constructor(vm: ControlledVm) {
    this.#vm = vm;
    this.#record = vm.record;
    this.#socket = ControlSocket.open(
      vm.paths.control,
      async (request, report, { signal }) => {
        const until = { signal: AbortSignal.any([signal, this.#over.signal]) };
        return this.#do(request, report, until);
      },
      vm.log,
    );
  }

  /** With the disks as they are now. */
  get record(): VmRecord {
    return this.#record;
  }

  /** What is not done yet is cancelled: the VM stops, or another process takes it over. */
  [Symbol.dispose](): void {
    this.#over.abort(new VmError('host', 'the VM stops'));
    this.#socket?.[Symbol.dispose]();
  }

  async #do(
    request: ControlRequest,
    report: (text: string) => void,
    waiting: Waiting,
  ): Promise<string> {
    switch (request.command) {
      case 'resize':
        return this.#queue.run('resize', () => this.#resize(request, waiting));
      case 'backup':
        return this.#queue.run('backup', () => this.#backUp(request, report, waiting));
      case 'screenshot':
        return this.#queue.run('screenshot', () => this.#saveScreen(request, waiting));
      default:
        return request satisfies never;
    }
  }

  /** Ends what an earlier process began: a backup, and what QEMU was given for that or a picture. Never rejects. */
  recover(): Promise<void> {
    return this.#queue.run('backup', async () => {
      await this.#endForeignBackup();
      const client = this.#vm.qmp();
      if (client === undefined) return;
      using limited = within(recoverMs);
      await removeForeignFiles(client, limited).catch((error: unknown) =>
        this.#vm.log.debug('files may be left in QEMU', { error: messageOf(error) }),
      );
    });
  }

  async #endForeignBackup(): Promise<void> {
    const { paths, agent, log, qmp } = this.#vm;
    const begun = await readFile(paths.backup, 'utf8').catch(() => undefined);
    const client = qmp();
    if (begun === undefined || client === undefined) return;
    await endForeignBackup(begun, { qmp: client, agent, log }, paths);
  }

  async #backUp(
    { disk: name, path, speed = 0 }: Extract<ControlRequest, { command: 'backup' }>,
    report: (text: string) => void,
    waiting: Waiting,
  ): Promise<string> {
    waiting.signal.throwIfAborted();
    const disk = diskNamed(disksOf(this.#record), name);
    const vm = {
      ...this.#vm,
      dataDir: this.#record.dataDir,
      qmp: this.#connected(),
      report,
      emit: (message: string, percent: number) =>
        this.#vm.emit(message, { disk: name, file: path, percent: String(percent) }),
    };
    await this.#endForeignBackup();
    const consistency = await backUp({ disk, path, speed }, vm, waiting);
    this.#vm.emit('The disk was backed up', { disk: name, file: path, consistency });
    return `${name} was backed up to ${path}, ${consistency}`;
  }

  async #resize(
    { disk: name, bytes }: Extract<ControlRequest, { command: 'resize' }>,
    waiting: Waiting,
  ): Promise<string> {
    waiting.signal.throwIfAborted();
    const { emit, identity, maxDiskBytes, onFileGrowth } = this.#vm;
    using limited = within(resizeMs, waiting);
    const qmp = this.#connected();
    const look = () => qmp.execute('query-named-block-nodes', { flat: true }, limited);
    const disk = diskNamed(disksOf(this.#record), name);
    const growth = planGrowth(disk, await look(), { bytes, maxBytes: maxDiskBytes });
    if (growth === undefined) return `${name} has ${bytes} bytes already`;
    const { node, virtualBytes, maxFileBytes, allocatedBytes } = growth;
    if (allocatedBytes !== undefined) {
      await allocateOpen(identity, { path: disk.path, bytes: allocatedBytes });
    }
    if (maxFileBytes !== undefined) {
      // Written down first: the limit of a process that adopts the VM must let the grown file be.
      await this.#change(disk.id, { maxFileBytes });
      onFileGrowth(maxFileBytes);
    }
    try {
      await reconnect(disk, qmp, limited);
      await qmp.execute('block_resize', { 'node-name': node, size: virtualBytes }, limited);
    } catch (cause) {
      if (!(cause instanceof QmpError)) throw cause;
      const reason = [cause.message, ...growthRemedy(disk)].join('; ');
      throw new VmError('host', `QEMU did not resize ${name}: ${reason}`, { cause });
    }
    // A device or an export that is larger than was asked for is shown to the guest as it is.
    const { virtualBytes: shown } = shownNode(disk, await look());
    await this.#change(disk.id, { virtualBytes: shown });
    emit('The disk was resized', { disk: name, bytes: String(shown) });
    return `${name} has ${shown} bytes now`;
  }

  async #saveScreen(
    { path }: Extract<ControlRequest, { command: 'screenshot' }>,
    waiting: Waiting,
  ): Promise<string> {
    waiting.signal.throwIfAborted();
    await saveScreenshot(path, { qmp: this.#connected(), dataDir: this.#record.dataDir }, waiting);
    return `the screen was written to ${path}`;
  }

  #connected(): QmpClient {
    const qmp = this.#vm.qmp();
    if (qmp !== undefined) return qmp;
    throw notConnected();
  }

  async #change(id: string, change: Partial<RecordedDisk>): Promise<void> {
    const devices = this.#record.devices.map((it) =>
      it.kind === 'disk' && it.id === id ? { ...it, ...change } : it,
    );
    const record = { ...this.#record, devices };
    await writeRecord(this.#vm.paths.record, record);
    this.#record = record;
  }
}
