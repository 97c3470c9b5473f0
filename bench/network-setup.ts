import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeFd, findProgram } from '#host';
import { type AttachedNic, type NetUndo, Networks } from '#net';

const bridge = 'bench0';
const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };
const waiting = () => ({ signal: AbortSignal.timeout(60_000) });

/** One more VM's interface in a managed network, put in and taken out again. */
export class NicCosts implements AsyncDisposable {
  readonly #networks: Networks;
  readonly #dir: string;
  #kept: Built | undefined;

  private constructor(networks: Networks, dir: string) {
    this.#networks = networks;
    this.#dir = dir;
  }

  /** With a VM that keeps the network, or so that each one is the first. */
  static async open({ kept = true } = {}): Promise<NicCosts> {
    const dir = mkdtempSync(join(tmpdir(), 'bench-net-'));
    const networks = Networks.open({
      stateDir: dir,
      managed: [{ bridge, address: '10.66.0.1', prefix: 24, nameservers: ['192.0.2.53'] }],
      bridges: [],
      maxConnections: 8192,
      nft: findProgram('nft') ?? 'nft',
      log: silent,
    });
    const costs = new NicCosts(networks, dir);
    if (kept) costs.#kept = await costs.#build('kept', 0);
    return costs;
  }

  /** Milliseconds until an interface with so many ports carries traffic. */
  async inserted(ports: number): Promise<number> {
    const began = performance.now();
    const built = await this.#build('vm', ports);
    const ms = performance.now() - began;
    await this.#remove(built);
    return ms;
  }

  /** Milliseconds until it is gone. */
  async removed(ports: number): Promise<number> {
    const built = await this.#build('vm', ports);
    const began = performance.now();
    await this.#remove(built);
    return performance.now() - began;
  }

  async #build(vm: string, count: number): Promise<Built> {
    const steps: NetUndo[] = [];
    const ports = Array.from({ length: count }, (_, at) => ({
      label: `p${at}`,
      hostIp: '',
      hostPort: 20_000 + at,
      guestPort: 20_000 + at,
    }));
    const attached = await this.#networks.vmStartedBuild(
      { kind: 'bridge', bridge, vm, index: 0, hostname: vm, ports },
      {
        perform: async (step, action) => {
          steps.unshift(step);
          return await action();
        },
      },
      waiting(),
    );
    const nic = { ...attached, ...(await attached.claim(waiting())) };
    await nic.settle(waiting());
    return { nic, steps };
  }

  async #remove({ nic, steps }: Built): Promise<void> {
    if (nic.backend.kind === 'tap') for (const fd of nic.backend.fds) closeFd(fd);
    for (const step of steps) await this.#networks.vmTerminatedTeardown(step, waiting());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#kept !== undefined) await this.#remove(this.#kept);
    await this.#networks[Symbol.asyncDispose]();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

interface Built {
  readonly nic: AttachedNic;
  /** Newest first. */
  readonly steps: readonly NetUndo[];
}

/** Milliseconds of a bridge with an address and a tap in it, as an operator makes them. */
export async function byHand(): Promise<number> {
  const began = performance.now();
  ip('link', 'add', 'hand0', 'type', 'bridge');
  ip('addr', 'add', '10.67.0.1/24', 'dev', 'hand0');
  ip('link', 'set', 'hand0', 'up');
  ip('tuntap', 'add', 'dev', 'hand1', 'mode', 'tap');
  ip('link', 'set', 'hand1', 'master', 'hand0');
  ip('link', 'set', 'hand1', 'up');
  const ms = performance.now() - began;
  ip('link', 'del', 'hand1');
  ip('link', 'del', 'hand0');
  return ms;
}

export function ip(...args: readonly string[]): void {
  execFileSync('ip', args);
}
