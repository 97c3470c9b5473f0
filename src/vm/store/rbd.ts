import { closeFd, findProgram, memfd, pause, type RunResult, runProgram, within } from '#host';
import type { StoragePool, Waiting } from '#spec';
import { VmError } from '../error.ts';

export type CephPool = Extract<StoragePool, { kind: 'ceph' }>;

/** The program's own limits, in seconds: without them its wait for an unreachable cluster has no end. */
const connectSeconds = 10;
const answerSeconds = 30;
const commandMs = 60_000;
const retryMs = 1000;
/** Exit codes are errno values. */
const noEntry = 2;
const busy = 16;

export interface RbdInfo {
  readonly bytes: number;
}

/** The images of one Ceph pool, by the `rbd` program. Its key is in no command line and no file. */
export class Rbd {
  readonly #pool: CephPool;

  constructor(pool: CephPool) {
    this.#pool = pool;
  }

  /** `name` may have a snapshot: `image@snapshot`. Throws VmError. */
  async info(name: string, waiting: Waiting): Promise<RbdInfo> {
    const { stdout } = await this.#run(['info', '--format=json', this.#spec(name)], waiting);
    const { size }: { size?: unknown } = JSON.parse(stdout);
    if (typeof size !== 'number') throw new VmError('host', `rbd info ${name}: no size`);
    return { bytes: size };
  }

  async create(name: string, bytes: number, waiting: Waiting): Promise<void> {
    await this.#run(['create', `--size=${bytes}B`, this.#spec(name)], waiting);
  }

  /** A copy-on-write clone of a protected snapshot. */
  async clone(snapshot: string, name: string, waiting: Waiting): Promise<void> {
    await this.#run(['clone', this.#spec(snapshot), this.#spec(name)], waiting);
  }

  async copy(source: string, name: string, waiting: Waiting): Promise<void> {
    await this.#run(['cp', '--no-progress', this.#spec(source), this.#spec(name)], waiting, {
      ms: Number.POSITIVE_INFINITY,
    });
  }

  /** The content of an open raw file; what is zero there takes no space. */
  async upload(fd: number, name: string, waiting: Waiting): Promise<void> {
    const path = `/proc/${process.pid}/fd/${fd}`;
    await this.#run(['import', '--no-progress', path, this.#spec(name)], waiting, {
      ms: Number.POSITIVE_INFINITY,
    });
  }

  async resize(name: string, bytes: number, waiting: Waiting): Promise<void> {
    await this.#run(['resize', '--no-progress', `--size=${bytes}B`, this.#spec(name)], waiting);
  }

  /**
   * Removes the image of a VM that has ended, if there is one. For the cluster a QEMU that was killed is the image's
   * user for half a minute: it is evicted.
   */
  async remove(name: string, waiting: Waiting): Promise<void> {
    for (;;) {
      if (!(await this.#evict(name, waiting))) return;
      const result = await this.#try(['rm', '--no-progress', this.#spec(name)], waiting);
      if (result.code === 0 || result.code === noEntry) return;
      // Without the right to evict they time out.
      if (result.code !== busy) throw failure('rm', result);
      await pause(retryMs, waiting);
    }
  }

  /** Ends the cluster's trust in the clients that have the image open; false when there is no such image. */
  async #evict(name: string, waiting: Waiting): Promise<boolean> {
    const status = await this.#try(['status', '--format=json', this.#spec(name)], waiting);
    if (status.code === noEntry) return false;
    if (status.code !== 0) throw failure('status', status);
    const { watchers = [] }: { watchers?: readonly { address?: unknown }[] } = JSON.parse(
      status.stdout,
    );
    for (const { address } of watchers) {
      if (typeof address !== 'string') continue;
      await this.#try(['osd', 'blocklist', 'add', address], waiting, { tool: 'ceph' });
    }
    return true;
  }

  #spec(name: string): string {
    return `${this.#pool.pool}/${name}`;
  }

  async #run(
    args: readonly string[],
    waiting: Waiting,
    options: { readonly ms?: number } = {},
  ): Promise<RunResult> {
    const result = await this.#try(args, waiting, options);
    if (result.code !== 0) throw failure(args[0] ?? '', result);
    return result;
  }

  async #try(
    args: readonly string[],
    waiting: Waiting,
    { ms = commandMs, tool = 'rbd' }: { readonly ms?: number; readonly tool?: 'rbd' | 'ceph' } = {},
  ): Promise<RunResult> {
    const program = findProgram(tool);
    if (program === undefined) {
      const text = `there is no ${tool} on this host; install ceph-common`;
      throw new VmError('host', text, { recoverable: true });
    }
    const key = memfd('ceph-key', Buffer.from(this.#pool.secret));
    try {
      const connection = [
        ...['--conf=/dev/null', `--mon-host=${monitorsOf(this.#pool)}`],
        ...[`--id=${this.#pool.username}`, `--keyfile=/proc/${process.pid}/fd/${key}`],
        ...[`--rados-mon-op-timeout=${connectSeconds}`, `--client-mount-timeout=${connectSeconds}`],
        `--rados-osd-op-timeout=${answerSeconds}`,
      ];
      if (!Number.isFinite(ms)) {
        return await runProgram({ program, args: [...connection, ...args] }, waiting);
      }
      using limited = within(ms, waiting);
      return await runProgram({ program, args: [...connection, ...args] }, limited);
    } finally {
      closeFd(key);
    }
  }
}

function monitorsOf({ hosts }: CephPool): string {
  return hosts
    .map(({ host, port }) => {
      const name = host.includes(':') ? `[${host}]` : host;
      return port === undefined ? name : `${name}:${port}`;
    })
    .join(',');
}

/** The last line that is not about progress. */
function failure(command: string, { code, signal, stderr }: RunResult): VmError {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  const reason =
    lines
      .at(-1)
      ?.replace(/^rbd: /, '')
      .slice(0, 500) ?? `exit ${code ?? signal}`;
  const missing = code === noEntry;
  return new VmError(missing ? 'job' : 'host', `rbd ${command}: ${reason}`, {
    recoverable: !missing,
  });
}
