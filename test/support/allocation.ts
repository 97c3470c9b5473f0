import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram, UndoLog } from '#host';
import { NetlinkSocket } from '#netlink';
import { Groups } from '../../src/net/group/groups.ts';
import type { ReadyNic } from '../../src/net/links/tap.ts';
import { decodeGroupNic, type GroupNic } from '../../src/net/model/group.ts';
import { Machine, must } from './guest.ts';
import { command, Namespace } from './netns.ts';
import { collect, decode, waiting } from './networks.ts';

const bridge = 'nqcni';
export const containerGateway = '10.88.0.1';
export const containerGateway6 = 'fd88::1';

/**
 * The bridge of a CNI network on this host, its way out, and one port of the host that leads to a container. With
 * `six` it has IPv6 as well.
 */
export async function containerNetwork(published: {
  readonly port: number;
  readonly to: string;
  /** The same as `to`, for IPv6. */
  readonly six?: string;
}): Promise<void> {
  await must('ip', 'link', 'add', bridge, 'type', 'bridge');
  await must('ip', 'addr', 'add', `${containerGateway}/24`, 'dev', bridge);
  await must('ip', 'link', 'set', bridge, 'up');
  await must('ip', 'link', 'set', 'lo', 'up');
  await writeFile('/proc/sys/net/ipv4/ip_forward', '1');
  await writeFile(`/proc/sys/net/ipv4/conf/${bridge}/route_localnet`, '1');
  const rules = [
    'add table ip cni',
    'add chain ip cni in { type nat hook prerouting priority dstnat; }',
    'add chain ip cni local { type nat hook output priority -100; }',
    'add chain ip cni out { type nat hook postrouting priority srcnat; }',
    ...['in', 'local'].flatMap((chain) =>
      ['tcp', 'udp'].map(
        (protocol) =>
          `add rule ip cni ${chain} fib daddr type local ${protocol} dport ${published.port} dnat to ${published.to}`,
      ),
    ),
    'add rule ip cni out ip saddr 127.0.0.0/8 oifname "nqcni" masquerade',
    'add rule ip cni out ip saddr 10.88.0.0/24 oifname != "nqcni" masquerade',
  ];
  await must('nft', rules.join('; '));
  if (published.six !== undefined) await containerNetwork6(published.port, published.six);
}

async function containerNetwork6(port: number, to: string): Promise<void> {
  await must('ip', 'addr', 'add', `${containerGateway6}/64`, 'dev', bridge, 'nodad');
  await writeFile('/proc/sys/net/ipv6/conf/all/forwarding', '1');
  const rules = [
    'add table ip6 cni',
    'add chain ip6 cni in { type nat hook prerouting priority dstnat; }',
    'add chain ip6 cni local { type nat hook output priority -100; }',
    'add chain ip6 cni out { type nat hook postrouting priority srcnat; }',
    ...['in', 'local'].flatMap((chain) =>
      ['tcp', 'udp'].map(
        (protocol) =>
          `add rule ip6 cni ${chain} fib daddr type local ${protocol} dport ${port} dnat to ${to}`,
      ),
    ),
    'add rule ip6 cni out ip6 saddr fd88::/64 oifname != "nqcni" masquerade',
  ];
  await must('nft', rules.join('; '));
}

/** An allocation's network namespace as Nomad and CNI make it, in which other tasks of the group serve and ask. */
export class Allocation extends Machine {
  /** A mount of the namespace, by which it is known; it lives on without it as long as something is in it. */
  readonly path: string;
  readonly #keeper: Namespace;
  readonly #dir: string;

  private constructor(keeper: Namespace, path: string, dir: string) {
    super(keeper);
    this.#keeper = keeper;
    this.path = path;
    this.#dir = dir;
  }

  /** Without an address, its loopback down, as with network mode "none". */
  static async isolated(): Promise<Allocation> {
    const dir = await mkdtemp(join(tmpdir(), 'nq-alloc-'));
    const path = join(dir, 'netns');
    const keeper = await Namespace.open({ loopback: false });
    await writeFile(path, '');
    await must('mount', '--bind', keeper.path, path);
    return new Allocation(keeper, path, dir);
  }

  static async open(address: string, six?: string): Promise<Allocation> {
    const allocation = await Allocation.isolated();
    const { pid } = allocation.namespace;
    const outer = allocation.outerLink;
    await must('ip', 'link', 'add', outer, 'type', 'veth', 'peer', 'name', `${outer}p`);
    await must('ip', 'link', 'set', `${outer}p`, 'netns', String(pid), 'name', 'eth0');
    await must('ip', 'link', 'set', outer, 'master', bridge, 'up');
    const { namespace } = allocation;
    await namespace.ip('link', 'set', 'lo', 'up');
    await namespace.ip('addr', 'add', `${address}/24`, 'dev', 'eth0');
    await namespace.ip('link', 'set', 'eth0', 'up');
    await namespace.ip('route', 'add', 'default', 'via', containerGateway);
    if (six !== undefined) {
      await namespace.ip('addr', 'add', `${six}/64`, 'dev', 'eth0', 'nodad');
      await namespace.ip('-6', 'route', 'add', 'default', 'via', containerGateway6);
    }
    return allocation;
  }

  /** The host's end of its cable, which goes with the namespace. */
  get outerLink(): string {
    return `veth${this.namespace.pid}`;
  }

  /** What Nomad does when the tasks have ended. */
  async remove(): Promise<void> {
    await command('umount', '-l', this.path);
    await rm(this.#dir, { recursive: true, force: true });
    await this.#keeper[Symbol.asyncDispose]();
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await this.remove();
  }
}

/** Directories with state, which several of these processes use one after the other. */
const dirs = new Set<string>();
process.once('exit', () => {
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

/** A plugin process, as far as NICs in groups go. */
export class GroupNics implements AsyncDisposable {
  readonly groups: Groups;
  readonly lines: string[] = [];
  readonly events: string[] = [];
  readonly #dir: string;
  readonly #netlink: Promise<NetlinkSocket>;

  private constructor(dir: string, maxConnections = 8192) {
    this.#dir = dir;
    this.#netlink = NetlinkSocket.open();
    const nft = findProgram('nft') ?? 'nft';
    const log = collect(this.lines);
    const onEvent = (vm: string, sentence: string): void =>
      void this.events.push(`${vm}: ${sentence}`);
    const open = async () => ({ netlink: await this.#netlink, log, onEvent });
    this.groups = new Groups(open, { nft, maxConnections });
  }

  static async open(options: { readonly maxConnections?: number } = {}): Promise<GroupNics> {
    const dir = await mkdtemp(join(tmpdir(), 'nq-group-'));
    dirs.add(dir);
    return new GroupNics(dir, options.maxConnections);
  }

  /** As while QEMU initialises, which has the tap already. */
  async open(vm: string, netns: string): Promise<ReadyNic> {
    const undo = (await this.#undoLog(vm)).keep();
    const dns = { servers: [], searches: [] };
    const request = { kind: 'group', vm, netns, index: 0, hostname: vm, dns, ports: [] } as const;
    return this.groups.build(request, undo, waiting());
  }

  /** Another process on the same state, as after a restart. */
  again(): GroupNics {
    return new GroupNics(this.#dir);
  }

  async attach(request: {
    readonly vm: string;
    readonly netns: string;
    /** Of the guest; or one that has another number in the namespace. */
    readonly ports?: readonly (number | { readonly inGroup: number; readonly guest: number })[];
    readonly servers?: readonly string[];
  }): Promise<{ nic: GroupNic; tapFd: number; address: string | undefined; mac: string }> {
    const { vm, netns, ports = [], servers = ['192.0.2.53'] } = request;
    const undo = await this.#undoLog(vm);
    await using _ = undo;
    const { backend, record, plug } = await this.groups.build(
      {
        kind: 'group',
        vm,
        netns,
        index: 0,
        hostname: vm,
        dns: { servers, searches: [] },
        ports: ports.map((port) => {
          const { inGroup, guest } =
            typeof port === 'number' ? { inGroup: port, guest: port } : port;
          return {
            label: `p${inGroup}`,
            hostIp: '',
            hostPort: 20_000 + inGroup,
            guestPort: guest,
            groupPort: inGroup,
          };
        }),
      },
      undo,
      waiting(),
    );
    await plug?.(waiting());
    undo.keep();
    const nic = decodeGroupNic({ vm, index: 0, record });
    assert.ok(nic !== undefined && backend.kind === 'tap');
    return { nic, tapFd: backend.fds[0] ?? -1, address: nic.ip, mac: nic.mac };
  }

  async detach(vm: string): Promise<void> {
    const undo = await this.#undoLog(vm);
    const { failed } = await undo.rollback(waiting());
    assert.deepEqual(failed, []);
  }

  #undoLog(vm: string) {
    const log = collect(this.lines);
    return UndoLog.open(
      join(this.#dir, `${vm}.undo`),
      async (step, w) => {
        assert.equal(step.kind, 'net-group');
        if (step.kind === 'net-group') await this.groups.drop(step, w);
      },
      { decode, log },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.groups[Symbol.asyncDispose]();
    await (await this.#netlink)[Symbol.asyncDispose]();
  }
}

/** A guest on its NIC, configured as its seed would. */
export async function guestOf({
  nic,
  tapFd,
}: {
  readonly nic: GroupNic;
  readonly tapFd: number;
}): Promise<Machine> {
  const guest = await Machine.guest({ tapFd, mac: nic.mac });
  const { six } = nic;
  return guest.configure({
    ip: nic.guest,
    prefix: 30,
    gateway: nic.gateway,
    ...(six && { six: { ip: six.guest, prefix: 126, gateway: six.gateway } }),
  });
}

/** The names of links and tables in a namespace. */
export async function inside(namespace: Namespace): Promise<string> {
  const links = await namespace.run('ip', '-o', 'link');
  const names = [...links.matchAll(/^\d+: ([^:@]+)/gm)].map(([, name]) => name);
  return `${names.join(' ')} | ${await namespace.run('nft', 'list', 'tables')}`.trim();
}
