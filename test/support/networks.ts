import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeFd, findProgram, type Logger, UndoLog } from '#host';
import {
  type AttachedNic,
  type ClaimedNic,
  decodeNetUndo,
  type Net,
  type NetUndo,
  Networks,
} from '#net';
import type { ManagedNetwork } from '#spec';
import type { BridgeRequest, NicRecord, NicRequest, TapBackend } from '../../src/net/model/nic.ts';
import type { UndoWriter } from '../../src/net/model/undo.ts';
import { command } from './netns.ts';
import { patient } from './patience.ts';

export const virbr0: ManagedNetwork = {
  bridge: 'virbr0',
  address: '192.168.122.1',
  prefix: 24,
  nameservers: ['192.0.2.53'],
};

export const waiting = (): { signal: AbortSignal } => ({
  signal: AbortSignal.timeout(patient(20_000)),
});

/** A NIC with its address, which carries no traffic yet. */
export type BuiltNic = AttachedNic & ClaimedNic;

/** A NIC that carries traffic. */
export type TestNic = BuiltNic &
  NicRecord & { readonly tapFd: number; readonly notes: readonly string[] };

interface HostOptions {
  /** A program of the test's own that stands in for nft. */
  readonly nft?: string;
  readonly bridges?: readonly string[];
  readonly macvtapDevices?: readonly string[];
  readonly maxConnections?: number;
}

/** A host with its own state directory, networks and one undo log per VM, as the plugin has them. */
export class Host implements AsyncDisposable {
  readonly dir: string;
  readonly networks: Networks;
  /** Every log line as `message {fields}`. */
  readonly lines: string[];
  /** Events of VMs about what was put back. */
  readonly events: string[] = [];
  readonly #own: boolean;

  private constructor(
    dir: string,
    o: { managed: readonly ManagedNetwork[]; own: boolean } & HostOptions,
  ) {
    const lines: string[] = [];
    this.dir = dir;
    this.lines = lines;
    this.#own = o.own;
    const nft = o.nft ?? findProgram('nft') ?? 'nft';
    const log = collect(lines);
    this.networks = Networks.open({
      stateDir: join(dir, 'networks'),
      managed: o.managed,
      bridges: o.bridges ?? [],
      macvtapDevices: o.macvtapDevices ?? [],
      maxConnections: o.maxConnections ?? 8192,
      nft,
      log,
      onEvent: (vm, sentence) => this.events.push(`${vm}: ${sentence}`),
    });
  }

  static async open(
    managed: readonly ManagedNetwork[] = [virbr0],
    options: HostOptions = {},
  ): Promise<Host> {
    const dir = await mkdtemp(join(tmpdir(), 'nq-net-'));
    return new Host(dir, { managed, own: true, ...options });
  }

  /** This process as one of several on a state directory that somebody else removes. */
  static at(dir: string): Host {
    return new Host(dir, { managed: [virbr0], own: false });
  }

  /** A second plugin process on the same state, as after a restart. */
  again(managed: readonly ManagedNetwork[] = [virbr0], options: HostOptions = {}): Host {
    return new Host(this.dir, { managed, own: false, ...options });
  }

  async undoLog(vm: string): Promise<UndoLog<NetUndo>> {
    return await UndoLog.open<NetUndo>(
      join(this.dir, `${vm}.undo`),
      (step, w) => this.networks.vmTerminatedTeardown(step, w),
      { decode, log: collect(this.lines) },
    );
  }

  /** Builds a NIC and waits until it carries traffic, with an undo log that is kept, or rolled back after a failure. */
  async attach(vm: string, request: Partial<BridgeRequest> = {}): Promise<TestNic> {
    await using undo = await this.undoLog(vm);
    const nic = { ...bridgeRequest(vm), ...request };
    const attached = await built(this.networks, nic, undo);
    const { record } = attached;
    assert.ok(record.kind === 'nic');
    const { fd } = tapOf(attached);
    let notes: readonly string[];
    try {
      notes = await attached.settle(waiting());
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    undo.keep();
    return { ...attached, ...record, tapFd: fd, notes };
  }

  async detach(vm: string): Promise<void> {
    const undo = await this.undoLog(vm);
    const { failed } = await undo.rollback(waiting());
    assert.deepEqual(failed, []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.networks[Symbol.asyncDispose]();
    if (this.#own) await rm(this.dir, { recursive: true, force: true });
  }
}

/** Builds a NIC as far as its address. */
export async function built(
  networks: Net,
  request: NicRequest,
  undo: UndoWriter,
): Promise<BuiltNic> {
  const nic = await networks.vmStartedBuild(request, undo, waiting());
  try {
    return { ...nic, ...(await nic.claim(waiting())) };
  } catch (error) {
    if (nic.backend.kind === 'tap') for (const fd of nic.backend.fds) closeFd(fd);
    throw error;
  }
}

function bridgeRequest(vm: string): BridgeRequest {
  return { kind: 'bridge', vm, index: 0, bridge: 'virbr0', ports: [], hostname: vm };
}

export function tapOf({
  backend,
}: Pick<AttachedNic, 'backend'>): TapBackend & { readonly fd: number } {
  assert.ok(backend.kind === 'tap');
  return { ...backend, fd: backend.fds[0] ?? assert.fail('a tap without a descriptor') };
}

/** What is on this host: links but lo and veth cables, and nftables tables. */
export async function leftovers(): Promise<{
  links: readonly string[];
  tables: readonly string[];
}> {
  const links = (await command('ip', '-o', 'link')).output
    .split('\n')
    .map((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? '')
    .filter((name) => !/^(lo|out\d*|)$/.test(name));
  const tables = (await command('nft', 'list', 'tables')).output.split('\n').filter(Boolean);
  return { links, tables };
}

/** All tables; the kernel lists them in the order in which they were made. */
export async function rules(): Promise<string> {
  const { output } = await command('nft', '-s', 'list', 'ruleset');
  return output
    .split(/^(?=table )/m)
    .map((table) => table.trim())
    .toSorted()
    .join('\n');
}

export const nothing = { links: [], tables: [] };

export function decode(json: unknown): NetUndo {
  const step = decodeNetUndo(json);
  assert.ok(step !== undefined, `not an undo step: ${JSON.stringify(json)}`);
  return step;
}

export function collect(lines: string[]): Logger {
  const write = (message: string, fields: object = {}): void => {
    lines.push(`${message} ${JSON.stringify(fields)}`);
  };
  return { trace: write, debug: write, info: write, warn: write, error: write };
}
