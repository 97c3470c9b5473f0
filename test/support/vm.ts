import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findByMark, type Logger } from '#host';
import type { VmSpec } from '#spec';
import { type Domain, type DomainEvent, type DomainRecord, QemuVirtualizer } from '#vm';
import { type CpuFigures, parseStat } from '../../src/vm/figures/stats.ts';
import type { VirtualizerOptions } from '../../src/vm/qemu-virtualizer.ts';
import { uuidOf, type VmPaths, vmPaths } from '../../src/vm/store/paths.ts';
import type { ExecRequest } from '../../src/vm/virtualizer.ts';
import { diskOn, imageOf } from './disks.ts';
import { type SectorMode, sectorImage } from './images.ts';
import { patient } from './patience.ts';
import { findProgram } from './programs.ts';
import { requireOrSkip } from './require.ts';

/** A limit for what hangs; on a busy machine it comes later. */
export const soon = (ms = 20_000): { readonly signal: AbortSignal } => ({
  signal: AbortSignal.timeout(patient(ms)),
});

/** Of this process alone: in every data directory the VM of one name takes the same id first. */
const firstUid = 1_000_000_000 + (process.pid % 100_000) * 100;
export const uidRange = { min: firstUid, max: firstUid + 99 } as const;

/** Whether real VMs can run here; else the test is skipped with the reason. */
export function canRunVms(t: TestContext): boolean {
  return (
    requireOrSkip(t, process.getuid?.() === 0, 'needs root: QEMU gets a user of its own') &&
    requireOrSkip(t, findProgram('qemu-system-x86_64') !== undefined, 'needs qemu-system-x86_64')
  );
}

/**
 * Directories as a client has them, for the VMs of one test. When the scope ends, what still runs is destroyed from
 * disk, and anything that is left then fails the test.
 */
export class VmGround implements AsyncDisposable {
  readonly root: string;
  readonly options: VirtualizerOptions;
  readonly taskDir: string;
  readonly lines: string[] = [];
  readonly events: { readonly name: string; readonly event: DomainEvent }[] = [];
  readonly virtualizers: QemuVirtualizer[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #names = new Set<string>();

  private constructor(root: string, changes: Partial<VirtualizerOptions>) {
    this.root = root;
    this.taskDir = join(root, 'alloc', 'task');
    mkdirSync(this.taskDir, { recursive: true });
    this.options = {
      dataDir: join(root, 'data'),
      runDir: join(root, 'run'),
      imagePaths: [dirname(sectorImage(0))],
      uidRange,
      managedNetworks: [],
      bridges: [],
      maxConnections: 8192,
      maxImageBytes: 2 ** 40,
      log: collect(this.lines),
      ...changes,
    };
  }

  static open(changes: Partial<VirtualizerOptions> = {}): VmGround {
    const root = mkdtempSync(join(tmpdir(), 'nq-vm-'));
    // QEMU's user has to be able to walk down to a shared directory.
    chmodSync(root, 0o711);
    return new VmGround(root, changes);
  }

  /** A plugin process's worth of virtualizer, which lets go of its VMs when the scope ends. */
  virtualizer(): QemuVirtualizer {
    const virtualizer = QemuVirtualizer.create(this.options);
    virtualizer.onEvent((name, event) => this.events.push({ name, event }));
    this.virtualizers.push(virtualizer);
    return virtualizer;
  }

  paths(name = 'vm-0'): VmPaths {
    return vmPaths(name, this.options.dataDir, this.options.runDir);
  }

  /** The smallest VM there is, on the one-sector guest. */
  spec(mode: SectorMode, changes: Partial<VmSpec> = {}): VmSpec {
    const spec = smallestSpec(imageOf(changes) ?? sectorImage(mode), this.taskDir, changes);
    this.#names.add(spec.name);
    return spec;
  }

  /** Makes both log pipes of a task, as the client does before a start. */
  pipes(name = 'task'): { readonly stdoutPath: string; readonly stderrPath: string } {
    const logs = join(dirname(this.taskDir), 'alloc', 'logs');
    mkdirSync(logs, { recursive: true });
    const stdoutPath = join(logs, `.${name}.stdout.fifo`);
    const stderrPath = join(logs, `.${name}.stderr.fifo`);
    execFileSync('mkfifo', ['-m', '600', stdoutPath, stderrPath]);
    return { stdoutPath, stderrPath };
  }

  /** What reads a log pipe for the client: a process of its own, until the end of the pipe. */
  read(path: string): PipeReader {
    const child = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#children.push(child);
    return new PipeReader(child);
  }

  /** A process of its own that will start this VM, and can be killed at any moment. */
  async starter(spec: VmSpec): Promise<Starter> {
    const program = join(import.meta.dirname, 'vm-starter.ts');
    const { log: _, ...options } = this.options;
    const stray = join(this.root, 'stray');
    const fd = openSync(stray, 'a');
    const child = spawn(process.execPath, [program, JSON.stringify({ options, spec })], {
      stdio: ['pipe', 'pipe', 'inherit', fd],
    });
    closeSync(fd);
    this.#children.push(child);
    const starter = new Starter(child, stray);
    await starter.ready;
    return starter;
  }

  /** Owns a process until the end of the scope. */
  own<T extends ChildProcess>(child: T): T {
    this.#children.push(child);
    return child;
  }

  /** Runs the work on a host whose virtiofsd does not even explain itself, so that QEMU serves the directories. */
  async withoutVirtiofsd<T>(work: () => Promise<T>): Promise<T> {
    const { PATH } = process.env;
    const broken = join(this.root, 'broken');
    mkdirSync(broken, { recursive: true });
    writeFileSync(join(broken, 'virtiofsd'), '#!/bin/sh\nexit 127\n', { mode: 0o755 });
    process.env.PATH = `${broken}:${PATH}`;
    try {
      return await work();
    } finally {
      process.env.PATH = PATH;
      rmSync(broken, { recursive: true });
    }
  }

  told(name = 'vm-0'): readonly string[] {
    return this.events.filter((it) => it.name === name).map((it) => it.event.message);
  }

  /** What the kernel counts of a process, whoever started it. */
  cpuOf(pid: number): CpuFigures {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  }

  /** What is mounted for VMs of this ground. */
  mounts(): readonly string[] {
    return readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(`${this.root}/`));
  }

  /** What VMs of this ground have on the host, in words; nothing after all are destroyed. */
  async leftovers(): Promise<readonly string[]> {
    const { dataDir, runDir } = this.options;
    const users = Array.from({ length: 100 }, (_, index) => uidRange.min + index);
    const waiting = soon();
    const processes: string[] = [];
    for (const name of this.#names) {
      const found = await findByMark(uuidOf(this.paths(name).dir), users, waiting);
      processes.push(...found.map((it) => `process ${it.pid} of ${name}`));
    }
    return [
      ...this.mounts().map((it) => `mount ${it}`),
      ...processes,
      ...list(join(dataDir, 'vms')).map((it) => `directory ${it}`),
      ...list(join(dataDir, 'uids')).map((it) => `user id ${it}`),
      ...list(runDir).map((it) => `run directory ${it}`),
    ];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
    }
    for (const virtualizer of this.virtualizers) await virtualizer[Symbol.asyncDispose]();
    await using remover = QemuVirtualizer.create(this.options);
    for (const name of this.#names) await remover.destroyDomain(name);
    const left = await this.leftovers();
    rmSync(this.root, { recursive: true, force: true });
    assert.deepEqual(left, [], 'something was left on the host');
  }
}

/** Another plugin process, with one VM. */
export class Starter {
  readonly ready: Promise<string>;
  /** A file that the process was started with, open for whatever it starts. */
  readonly stray: string;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(child: ChildProcess, stray: string) {
    assert.ok(child.stdout !== null);
    this.stray = stray;
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.ready = this.#line();
  }

  get pid(): number {
    return this.#child.pid ?? assert.fail('the process did not start');
  }

  begin(): void {
    this.#child.stdin?.write('go\n');
  }

  async create(): Promise<DomainRecord> {
    this.begin();
    const { record, error } = JSON.parse(await this.#line());
    assert.equal(error, undefined);
    return record;
  }

  /** Starts commands in the guest, and leaves them running. */
  async exec(...commands: readonly (readonly string[])[]): Promise<void> {
    for (const command of commands) await this.#begin({ command, terminal: false });
  }

  async openTerminal(...command: readonly string[]): Promise<void> {
    await this.#begin({ command, terminal: true });
  }

  async #begin(request: Pick<ExecRequest, 'command' | 'terminal'>): Promise<void> {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    assert.equal(await this.#line(), '{}');
  }

  /** SIGKILL: nothing of it runs afterwards. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    await new Promise((resolve) => this.#child.once('exit', resolve));
  }

  async #line(): Promise<string> {
    const { value } = await this.#lines.next();
    return value ?? '';
  }
}

/** The text that came out of a log pipe so far. */
export class PipeReader {
  readonly child: ChildProcess;
  readonly ended: Promise<void>;
  #bytes: Buffer[] = [];

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.on('data', (chunk: Buffer) => this.#bytes.push(chunk));
    this.ended = new Promise((resolve) => child.once('close', () => resolve()));
  }

  get text(): string {
    return Buffer.concat(this.#bytes).toString('latin1');
  }

  async until(pattern: RegExp, ms = 10_000): Promise<string> {
    await eventually(() => pattern.test(this.text), `${pattern} in the log`, ms);
    return this.text;
  }
}

/** Polls a condition that something outside of this process brings about. */
export async function eventually(
  condition: () => boolean,
  what: string,
  ms = 10_000,
): Promise<void> {
  const limitMs = patient(ms);
  const until = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > until) assert.fail(`not within ${limitMs} ms: ${what}`);
    await sleep(5);
  }
}

export function smallestSpec(
  image: string,
  taskDir: string,
  changes: Partial<VmSpec> = {},
): VmSpec {
  return {
    name: 'vm-0',
    identity: {
      taskId: 'alloc-0/task/1',
      taskName: 'task',
      allocId: '6b8e3a5e-0000-4000-8000-000000000000',
      groupName: 'group',
      jobId: 'job',
      jobName: 'job',
      namespace: 'default',
      nodeName: 'node',
      nodeId: '',
    },
    arch: 'x86_64',
    machine: undefined,
    accelerator: 'tcg',
    firmware: 'bios',
    vcpus: 1,
    pinnedCores: [],
    cpuShares: 0,
    memoryMiB: 32,
    disks: [diskOn(image, 1)],
    nics: [],
    shares: [],
    guest: {
      hostname: 'guest',
      userData: undefined,
      password: undefined,
      authorizedKey: undefined,
      commands: [],
      timezone: undefined,
      env: {},
    },
    allocDir: dirname(taskDir),
    taskDir,
    stdoutPath: '/dev/null',
    stderrPath: '/dev/null',
    cgroupPath: '',
    ...changes,
  };
}

/** Waits until the guest speaks on its console. */
export async function booted(domain: Domain, ms = 15_000): Promise<void> {
  const history = domain.attributes['console.log'] ?? '';
  const size = (): number => (existsSync(history) ? readFileSync(history).length : 0);
  await eventually(() => size() > 0, 'a word from the guest', ms);
}

function list(path: string): readonly string[] {
  return existsSync(path) ? readdirSync(path) : [];
}

export function collect(lines: string[]): Logger {
  const write =
    (level: string) =>
    (message: string, fields: object = {}): void => {
      lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
    };
  return {
    trace: write('trace'),
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  };
}
