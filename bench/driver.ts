import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { encode } from '@msgpack/msgpack';
import { build } from '../scripts/build.ts';
import { BasePlugin } from '../src/plugin/gen/base_pb.ts';
import { Driver } from '../src/plugin/gen/driver_pb.ts';
import { cookie, PluginClient } from '../test/support/plugin-client.ts';
import { ConsolePipe } from './console-pipe.ts';
import { allocationDirectories, type JobKind, publishedPorts, taskConfig } from './job.ts';

const firstPort = 20_000;
const maxConcurrentCalls = 1000;

/** Keys of the job. */
export interface Image {
  readonly image: string;
  /** In MiB. */
  readonly primary_disk_size: number;
}

export interface StartedVm {
  readonly id: string;
  readonly pid: number;
  /** Until StartTask's answer, when the guest runs. */
  readonly startMs: number;
  /** Until the first byte in the FIFO that Nomad reads the task's output from. */
  readonly firstByteMs: number;
  readonly argv: readonly string[];
  /** When WaitTask was answered. */
  readonly waited: Promise<number>;
}

/** The built plugin as Nomad runs it: a process of its own, called over gRPC. */
export class DriverPath implements AsyncDisposable {
  readonly pid: number;
  readonly #client: PluginClient;
  readonly #dir: string;
  readonly #end: () => Promise<void>;
  #startedVms = 0;

  private constructor(pid: number, client: PluginClient, dir: string, end: () => Promise<void>) {
    this.pid = pid;
    this.#client = client;
    this.#dir = dir;
    this.#end = end;
  }

  /** `block` has keys of the plugin block beside those that every bench needs. */
  static async open(block: Readonly<Record<string, unknown>> = {}): Promise<DriverPath> {
    const program = await build();
    const dir = mkdtempSync(join(tmpdir(), 'bench-driver-'));
    const child = spawn(program, [], {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { PATH: process.env.PATH, TMPDIR: dir, ...cookie },
      cwd: '/',
    });
    const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
    const line = await new Promise<string>((resolve, reject) => {
      createInterface(child.stdout).once('line', resolve);
      child.once('exit', () => reject(new Error('the plugin ended before its handshake')));
    });
    const client = new PluginClient(line.split('|')[3] ?? '');
    await client.call(BasePlugin.method.setConfig, {
      msgpackConfig: encode({
        data_dir: join(dir, 'data'),
        run_dir: join(dir, 'run'),
        image_paths: ['/'],
        limits: { min_memory_mb: 16, min_disk_mb: 1 },
        ...block,
      }),
      pluginApiVersion: 'v0.1.0',
      nomadConfig: { driver: { topology: { cores: [{ baseSpeed: 2000n }] } } },
    });
    return new DriverPath(child.pid ?? 0, client, dir, async () => {
      client.close();
      child.kill('SIGTERM');
      await exited;
      rmSync(dir, { recursive: true, force: true });
    });
  }

  /** How many VMs have been started so far. */
  get startedVms(): number {
    return this.#startedVms;
  }

  /** Starts a VM and waits for its first byte. Its image is the smallest one unless stated. */
  async start(kind: JobKind, image?: Image): Promise<StartedVm> {
    const allocId = randomBytes(4).toString('hex');
    const id = `bench/vm/${allocId}`;
    const allocDir = join(this.#dir, kind);
    for (const name of allocationDirectories(kind)) {
      mkdirSync(join(allocDir, name), { recursive: true });
    }
    using console = new ConsolePipe(join(allocDir, `${randomBytes(4).toString('hex')}.fifo`));
    const ports = publishedPorts(firstPort + 2 * this.#startedVms);
    this.#startedVms += 1;
    const began = performance.now();
    await this.#client.call(Driver.method.startTask, {
      task: {
        id,
        name: 'vm',
        allocId,
        allocDir,
        stdoutPath: console.path,
        stderrPath: '/dev/null',
        msgpackDriverConfig: encode({ ...taskConfig(kind), ...image }),
        resources: { allocatedResources: { memory: { memoryMb: 128n } }, ports },
      },
    });
    const startMs = performance.now() - began;
    const firstByteMs = (await console.firstByteAt) - began;
    const waited = this.#client
      .call(Driver.method.waitTask, { taskId: id })
      .then(() => performance.timeOrigin + performance.now());
    // Not the first to report it when the bench fails elsewhere.
    waited.catch(() => {});
    const inspected = await this.#client.call(Driver.method.inspectTask, { taskId: id });
    const pid = Number(inspected.driver?.attributes.pid);
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    return { id, pid, startMs, firstByteMs, argv, waited };
  }

  /** StopTask with SIGKILL; returns its time. The task is destroyed after it. */
  async kill({ id }: StartedVm): Promise<number> {
    const began = performance.now();
    await this.#client.call(Driver.method.stopTask, { taskId: id, signal: 'SIGKILL' });
    const killMs = performance.now() - began;
    await this.destroy(id);
    return killMs;
  }

  async destroy(id: string): Promise<void> {
    await this.#client.call(Driver.method.destroyTask, { taskId: id, force: true });
  }

  /** Statistics of a VM as Nomad asks for them. */
  sampled({ id }: StartedVm, intervalMs: number) {
    const collectionInterval = durationFromMs(intervalMs);
    return this.#client.stream(Driver.method.taskStats, { taskId: id, collectionInterval });
  }

  /** The histories of all consoles, to which QEMU appends. */
  consoles(): readonly string[] {
    return globSync(join(this.#dir, 'run/*/console.log'));
  }

  async signal({ id }: StartedVm, signal: string): Promise<void> {
    await this.#client.call(Driver.method.signalTask, { taskId: id, signal });
  }

  /** The time from the death of a QEMU (SIGKILL sent) to the answer of WaitTask. */
  async deathAnswered(): Promise<number> {
    const vm = await this.start('small');
    const began = performance.timeOrigin + performance.now();
    process.kill(vm.pid, 'SIGKILL');
    const answered = await vm.waited;
    await this.destroy(vm.id);
    return answered - began;
  }

  /**
   * Small calls, a thousand at a time: with many more this client and the plugin may both wait until the other one reads,
   * because Node reads no HTTP/2 while its own writes wait. The agent's client always reads.
   */
  async storm(calls: number): Promise<void> {
    const call = () => this.#client.call(Driver.method.capabilities, {});
    for (let left = calls; left > 0; left -= maxConcurrentCalls) {
      await Promise.all(Array.from({ length: Math.min(left, maxConcurrentCalls) }, call));
    }
  }

  /** Resident memory of the plugin, in MiB: all of it, or only the anonymous memory (without its executable's pages). */
  memoryMiB(which: 'VmRSS' | 'RssAnon' = 'VmRSS'): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8');
    return Number(new RegExp(`^${which}:\\s+(\\d+)`, 'm').exec(status)?.[1]) / 1024;
  }

  /** CPU time of the plugin's threads that there are, as the scheduler counts it. */
  cpuMs(): number {
    const tasks = `/proc/${this.pid}/task`;
    const times = readdirSync(tasks).map((tid) =>
      Number(readFileSync(`${tasks}/${tid}/schedstat`, 'latin1').split(' ')[0]),
    );
    return times.reduce((sum, ns) => sum + ns, 0) / 1e6;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }
}
