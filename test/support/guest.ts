import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import {
  closeFd,
  findProgram,
  kill,
  openTap,
  type ProcessIdentity,
  spawnDetached,
  withNetns,
} from '#host';
import { command, Namespace } from './netns.ts';
import { patient } from './patience.ts';

const peer = join(import.meta.dirname, 'peer.ts');

/** Anything with network interfaces: a namespace that can serve and ask. */
export class Machine implements AsyncDisposable {
  readonly namespace: Namespace;
  readonly #children: ChildProcess[] = [];
  readonly #cables: ProcessIdentity[] = [];
  #link: string | undefined;

  protected constructor(namespace: Namespace) {
    this.namespace = namespace;
  }

  /** A machine outside the host under test, on a veth cable: the host's end is `link`. */
  static async outside(o: {
    link: string;
    hostAddress: string;
    address: string;
    /** The same for IPv6. */
    six?: { hostAddress: string; address: string };
  }): Promise<Machine> {
    const machine = new Machine(await Namespace.open());
    const { pid } = machine.namespace;
    machine.#link = o.link;
    await must('ip', 'link', 'add', o.link, 'type', 'veth', 'peer', 'name', `${o.link}p`);
    await must('ip', 'link', 'set', `${o.link}p`, 'netns', String(pid));
    await must('ip', 'addr', 'add', `${o.hostAddress}/24`, 'dev', o.link);
    await must('ip', 'link', 'set', o.link, 'up');
    await machine.namespace.ip('addr', 'add', `${o.address}/24`, 'dev', `${o.link}p`);
    if (o.six !== undefined) {
      await must('ip', 'addr', 'add', `${o.six.hostAddress}/64`, 'dev', o.link, 'nodad');
      await machine.namespace.ip(
        'addr',
        'add',
        `${o.six.address}/64`,
        'dev',
        `${o.link}p`,
        'nodad',
      );
    }
    await machine.namespace.ip('link', 'set', `${o.link}p`, 'up');
    return machine;
  }

  /**
   * A guest behind a tap, as QEMU would hold it: two processes carry the frames between the host's tap, which is
   * closed here, and an `eth0` in the guest's namespace that has the NIC's MAC address.
   */
  static async guest(nic: {
    tapFd: number;
    mac: string;
    /** Whether its frames have a header of virtio, as those of a macvtap do. */
    offload?: boolean;
    /** How it chooses its link-local address: from its MAC address, where it is left out. */
    linkLocal?: 'random' | 'stable-privacy';
  }): Promise<Machine> {
    const machine = new Machine(await Namespace.open());
    const { offload = false } = nic;
    const [opening] = withNetns(machine.namespace.path, () => [openTap('eth0', { offload })]);
    const inner = (await opening).fd;
    const own = '/proc/sys/net/ipv6/conf/eth0';
    const choices = {
      random: `echo 3 >${own}/addr_gen_mode`,
      'stable-privacy': `echo 2001:db8::5ec >${own}/stable_secret`,
    } as const;
    const choice = nic.linkLocal === undefined ? ':' : choices[nic.linkLocal];
    await machine.namespace.run('sh', '-c', choice);
    // Up before the first frame: writing to a tap that is down is an error, and cat would end.
    await machine.namespace.ip('link', 'set', 'eth0', 'address', nic.mac);
    await machine.namespace.ip('link', 'set', 'eth0', 'up');
    const program = findProgram('cat') ?? 'cat';
    for (const stdio of [
      [nic.tapFd, inner, 'ignore'],
      [inner, nic.tapFd, 'ignore'],
    ] as const) {
      machine.#cables.push((await spawnDetached({ program, args: [], stdio })).identity);
    }
    closeFd(nic.tapFd);
    closeFd(inner);
    return machine;
  }

  /** Configures eth0 as the seed would. */
  async configure(
    address:
      | {
          ip: string;
          prefix: number;
          gateway?: string;
          six?: { ip: string; prefix: number; gateway?: string };
        }
      | undefined,
  ): Promise<this> {
    assert.ok(address !== undefined, 'the NIC has no address');
    const isSure = address.ip.includes(':') ? ['nodad'] : [];
    const own = ['addr', 'add', `${address.ip}/${address.prefix}`, 'dev', 'eth0', ...isSure];
    await this.namespace.ip(...own);
    const { six } = address;
    if (six !== undefined) {
      await this.namespace.ip('addr', 'add', `${six.ip}/${six.prefix}`, 'dev', 'eth0', 'nodad');
      const way = six.gateway === undefined ? [] : ['via', six.gateway, 'dev', 'eth0'];
      // On a busy host a router advertisement may have come first.
      if (way.length > 0) await this.namespace.ip('-6', 'route', 'replace', 'default', ...way);
    }
    if (address.gateway === undefined) return this;
    await this.namespace.ip('route', 'add', 'default', 'via', address.gateway);
    return this;
  }

  /** Answers HTTP and UDP on a port with `<name> saw <address>`. */
  async serve(port: number, name: string, address = '0.0.0.0'): Promise<void> {
    const args = [`--net=${this.namespace.path}`, '--', process.execPath, peer, 'serve'];
    const child = spawn(
      findProgram('nsenter') ?? 'nsenter',
      [...args, String(port), name, address],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    this.#children.push(child);
    const { promise, resolve } = Promise.withResolvers<void>();
    child.stdout.once('data', () => resolve());
    await promise;
  }

  /** Asks once; the answer, or what went wrong. */
  async ask(
    protocol: 'tcp' | 'udp',
    host: string,
    port: number,
    withinMs = patient(5000),
  ): Promise<string> {
    const args = [peer, 'ask', protocol, host, String(port), String(withinMs)];
    return (await this.namespace.try(process.execPath, ...args)).output.trim();
  }

  /** Asks where no answer should come from, and doesn't wait long for none. */
  async askInVain(protocol: 'tcp' | 'udp', host: string, port: number): Promise<void> {
    assert.doesNotMatch(await this.ask(protocol, host, port, 700), /saw/);
  }

  /** Asks until the answer is the expected one: a neighbour that did not answer before is unreachable for a while. */
  async askUntil(
    protocol: 'tcp' | 'udp',
    host: string,
    port: number,
    expected: RegExp,
  ): Promise<void> {
    const end = performance.now() + patient(15_000);
    let answer = await this.ask(protocol, host, port, 1500);
    while (!expected.test(answer) && performance.now() < end)
      answer = await this.ask(protocol, host, port, 1500);
    assert.match(answer, expected);
  }

  /** How many seconds the bytes take from a server that `serve` started. */
  async pull(host: string, port: number, bytes: number): Promise<number> {
    const args = [peer, 'pull', host, String(port), String(bytes)];
    return Number(await this.namespace.run(process.execPath, ...args));
  }

  /** What happens to a guest's links when QEMU dies. */
  async unplug(): Promise<void> {
    const waiting = { signal: AbortSignal.timeout(patient(10_000)) };
    for (const cable of this.#cables.splice(0)) await kill(cable, waiting);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await this.unplug();
    // The kernel takes its time to do away with a namespace, and the cable into it stays until then.
    if (this.#link !== undefined) await command('ip', 'link', 'del', this.#link);
    await this.namespace[Symbol.asyncDispose]();
  }
}

/** The host under test asks. */
export async function askFromHost(
  protocol: 'tcp' | 'udp',
  host: string,
  port: number,
): Promise<string> {
  const args = [peer, 'ask', protocol, host, String(port), String(patient(5000))];
  return (await command(process.execPath, ...args)).output.trim();
}

export async function must(program: string, ...args: readonly string[]): Promise<string> {
  const { code, output } = await command(program, ...args);
  assert.equal(code, 0, `${program} ${args.join(' ')}: ${output}`);
  return output;
}
