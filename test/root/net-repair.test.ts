import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd, openTap } from '#host';
import { formatIpv6, linkLocalOf } from '#spec';
import { readSysctl, writeSysctls } from '../../src/net/model/sysctl.ts';
import { macOf } from '../support/accomplice.ts';
import { Machine, must } from '../support/guest.ts';
import { until } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import {
  Host,
  leftovers,
  nothing,
  rules,
  type TestNic,
  virbr0,
  waiting,
} from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';

const web = { label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 };

/** An nft that lists and applies nothing. */
async function refusing(dir: string): Promise<string> {
  const program = join(dir, 'nft');
  const script = '#!/bin/sh\n[ "$1" = -f ] && exit 1\nexec nft "$@"\n';
  await writeFile(program, script, { mode: 0o755 });
  return program;
}

/** An nft before whose next transaction another program empties all chains of the driver. */
async function interrupted(dir: string): Promise<{ readonly nft: string; readonly next: string }> {
  const [nft, next] = [join(dir, 'nft'), join(dir, 'next')];
  const flush = `nft list tables | grep _driver_qmp_ | sed 's/^/flush /' | nft -f -`;
  const script = `#!/bin/sh\n[ "$1" = -f ] && [ -e ${next} ] && rm ${next} && ${flush}\nexec nft "$@"\n`;
  await writeFile(nft, script, { mode: 0o755 });
  return { nft, next };
}

/** The kernel's notices about links, as it wrote each of them. */
class Monitor implements AsyncDisposable {
  #text = '';
  readonly #child: ChildProcess;

  private constructor() {
    const args = ['-d', 'monitor', 'link'];
    this.#child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
    });
  }

  static async open(): Promise<Monitor> {
    const monitor = new Monitor();
    await monitor.until('begin0');
    return monitor;
  }

  /** All notices before that of a link of this name, which is made for it. */
  async until(name: string): Promise<readonly string[]> {
    const until = performance.now() + patient(8000);
    // The monitor may not listen yet when the first link is made.
    while (!this.#text.includes(name)) {
      assert.ok(performance.now() < until, `no notice of ${name} in: ${this.#text}`);
      await must('ip', 'link', 'add', name, 'type', 'bridge');
      await must('ip', 'link', 'del', name);
    }
    return this.#text.split(/^(?=\S)/m);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
  }
}

const knownAs = (vm: string, { record }: TestNic) => ({ vm, index: 0, record });

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox'], () => {
  test('rules that another program flushes while a VM starts are whole once it runs', async (t) => {
    const { nft, next } = await interrupted(tmpDir(t));
    await using host = await Host.open([virbr0], { nft });
    const first = await host.attach('first');
    const chains = async (): Promise<readonly string[]> =>
      (await rules()).match(/^\tchain \S+ \{\n(\t\ttype .*\n)?\t\}$/gm) ?? [];
    assert.deepEqual(await chains(), []);
    await writeFile(next, '');
    const second = await host.attach('second');
    assert.deepEqual(await chains(), []);
    for (const [vm, nic] of Object.entries({ first, second })) {
      closeFd(nic.tapFd);
      await host.detach(vm);
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25 V-111: flushed rules come back while VMs run, at the next look at the host', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const before = await rules();
    const told = () => host.lines.filter((line) => /rules of the VMs were gone/.test(line)).length;
    await host.networks.fingerprint(waiting());
    assert.equal(told(), 0);
    const removals = [
      ['flush', 'ruleset'],
      ['flush', 'table', ...tableOf(before, /^table (inet) (\S+_[0-9a-f]{8}) /m)],
      ['flush', 'table', ...tableOf(before, /^table (bridge) (\S+)/m)],
      ['flush', 'table', ...tableOf(before, /^table (inet) (\S+_tracked)/m)],
      ['flush', 'chain', ...tableOf(before, /^table (bridge) (\S+)/m), 'guest'],
      ['delete', 'table', ...tableOf(before, /^table (bridge) (\S+)/m)],
      ['delete', 'table', ...tableOf(before, /^table (inet) (\S+_tracked)/m)],
    ];
    for (const what of removals) {
      await must('nft', ...what);
      await host.networks.fingerprint(waiting());
      assert.equal(await rules(), before, what.join(' '));
    }
    assert.equal(told(), removals.length);
    closeFd(nic.tapFd);
    await host.detach('web');
    await host.networks.fingerprint(waiting());
    assert.equal(told(), removals.length);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: a bridge that was deleted while VMs run comes back with their taps in it', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    await must('ip', 'link', 'del', 'virbr0');
    await host.networks.init(waiting());
    assert.match(await must('ip', 'link', 'show', nic.tap), /master virbr0/);
    assert.match(await must('ip', 'addr', 'show', 'virbr0'), /inet 192\.168\.122\.1\/24/);
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  for (const [damage, command] of [
    ['without its address', ['addr', 'flush', 'dev', 'virbr0']],
    ['down', ['link', 'set', 'virbr0', 'down']],
  ] as const) {
    test(`V-111: a bridge that a network manager left ${damage} comes back, with an entry in the log`, async () => {
      await using host = await Host.open();
      const nic = await host.attach('web', { ports: [web] });
      await must('ip', ...command);
      await host.networks.init(waiting());
      assert.match(
        await must('ip', 'addr', 'show', 'virbr0'),
        /[<,]UP[,>][\s\S]*inet 192\.168\.122\.1\/24/,
      );
      const told = () => host.lines.filter((line) => /bridge of running VMs was/.test(line));
      assert.deepEqual(told(), [
        `bridge of running VMs was ${damage} and was put back {"bridge":"virbr0"}`,
      ]);
      const event = `web: Bridge virbr0 was ${damage} and was put back`;
      assert.ok(host.events.includes(event), host.events.join('\n'));
      await host.networks.init(waiting());
      assert.equal(told().length, 1);
      closeFd(nic.tapFd);
      await host.detach('web');
      assert.deepEqual(await leftovers(), nothing);
    });
  }

  test('V-111: IPv6 addresses of a bridge that were removed come back, each time with an event', async () => {
    const gateway = 'fd12:3456:789a::1';
    await using host = await Host.open([{ ...virbr0, address6: `${gateway}/64` }]);
    const nic = await host.attach('web');
    await using guest = await Machine.guest(nic);
    await guest.configure(nic.address);
    const router = formatIpv6(linkLocalOf(await macOf('virbr0')));
    // The kernel takes an address into use after its answer, in a thread that waits for the lock of all links
    // (addrconf_dad_work): 3 to 28 ms beside programs that make links. What comes for the address until then is lost.
    const reaches = async (): Promise<void> => {
      for (const to of [gateway, `${router}%eth0`]) {
        const ping = () => guest.namespace.try('busybox', 'ping', '-6', '-c1', '-W2', to);
        await until(ping, ({ code }) => code === 0, 30_000);
      }
    };
    await reaches();
    await host.networks.init(waiting());
    assert.deepEqual(host.events, []);
    const removals = [
      ['-6', 'addr', 'flush', 'dev', 'virbr0'],
      ['addr', 'del', `${router}/64`, 'dev', 'virbr0'],
      ['addr', 'del', `${gateway}/64`, 'dev', 'virbr0'],
    ];
    for (const [index, removal] of removals.entries()) {
      await must('ip', ...removal);
      await host.networks.init(waiting());
      await reaches();
      await host.networks.init(waiting());
      const event = 'web: Bridge virbr0 was without its address and was put back';
      assert.deepEqual(host.events, Array(index + 1).fill(event), removal.join(' '));
    }
    await guest.unplug();
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: a start that makes a deleted bridge again puts running VMs back after the rules', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'link', 'del', 'virbr0');
    await using broken = host.again([virbr0], { nft: await refusing(host.dir) });
    await assert.rejects(broken.attach('second'), /nft refused the rules/);
    assert.doesNotMatch(await must('ip', 'link', 'show', nic.tap), /master/);
    await host.networks.init(waiting());
    assert.match(await must('ip', 'link', 'show', nic.tap), /master virbr0/);
    await must('ip', 'link', 'del', 'virbr0');
    const third = await host.attach('third');
    for (const { tap } of [nic, third]) {
      assert.match(await must('ip', '-d', 'link', 'show', tap), /master virbr0[\s\S]*hairpin on/);
    }
    for (const { tapFd } of [nic, third]) closeFd(tapFd);
    for (const vm of ['web', 'third']) await host.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });

  for (const [left, commands] of [
    ['outside its bridge', [['nomaster']]],
    [
      'in its bridge, without its settings and down',
      [['nomaster'], ['down'], ['master', 'virbr0']],
    ],
  ] as const) {
    test(`V-111: a repair that ended before its last tap is completed: one ${left}`, async () => {
      await using host = await Host.open();
      const first = await host.attach('first');
      const last = await host.attach('last');
      for (const words of commands) await must('ip', 'link', 'set', last.tap, ...words);
      await host.networks.init(waiting());
      const port = await must('ip', '-d', 'link', 'show', last.tap);
      assert.match(port, /[<,]UP[,>].* master virbr0 /);
      assert.match(port, /hairpin on/);
      const events = () => host.lines.filter((line) => /put back/.test(line));
      assert.deepEqual(events(), [
        `tap had left its bridge and was put back {"vm":"last","tap":"${last.tap}","bridge":"virbr0"}`,
      ]);
      await host.networks.init(waiting());
      assert.equal(events().length, 1);
      for (const { tapFd } of [first, last]) closeFd(tapFd);
      for (const vm of ['first', 'last']) await host.detach(vm);
      assert.deepEqual(await leftovers(), nothing);
    });
  }

  test('V-111: a bridge of others that is gone is reported once, and taps come back into it when it was made again', async () => {
    const make = async (bridge: string): Promise<void> => {
      await must('ip', 'link', 'add', bridge, 'type', 'bridge');
      await must('ip', 'link', 'set', bridge, 'up');
    };
    const lend = async (): Promise<void> => {
      await make('virbr0');
      await must('ip', 'addr', 'add', '192.168.122.1/24', 'dev', 'virbr0');
    };
    await make('br0');
    await lend();
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    const web = await host.attach('web', { bridge: 'br0' });
    const db = await host.attach('db');
    await using restarted = host.again([virbr0], { bridges: ['br0'] });
    await restarted.networks.adopt(knownAs('web', web), waiting());
    await restarted.networks.adopt(knownAs('db', db), waiting());
    for (const plugin of [host, restarted]) {
      for (const bridge of ['br0', 'virbr0']) await must('ip', 'link', 'del', bridge);
      for (const _ of ['once', 'again']) await plugin.networks.init(waiting());
      await make('br0');
      await lend();
      await plugin.networks.init(waiting());
      assert.match(await must('ip', 'link', 'show', web.tap), /,UP.* master br0 /);
      assert.match(await must('ip', 'link', 'show', db.tap), /,UP.* master virbr0 /);
      await plugin.networks.init(waiting());
      const gone =
        'which the driver did not make, is gone: the guest has no network there until it is back';
      assert.deepEqual(plugin.events.toSorted(), [
        `db: Bridge virbr0, ${gone}, or the task is restarted: the driver makes one then`,
        `db: Tap ${db.tap} had left bridge virbr0 and was put back`,
        `web: Bridge br0, ${gone}`,
        `web: Tap ${web.tap} had left bridge br0 and was put back`,
      ]);
    }
    await must('ip', 'link', 'del', 'virbr0');
    const later = await host.attach('later');
    assert.match(await must('ip', 'link', 'show', db.tap), /,UP.* master virbr0 /);
    for (const { tapFd } of [web, db, later]) closeFd(tapFd);
    for (const vm of ['web', 'db', 'later']) await host.detach(vm);
    await host.networks.init(waiting());
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: the host routes for running VMs again where that was turned off, with an event', async () => {
    await using host = await Host.open([{ ...virbr0, address6: 'fd12:3456:789a::1/64' }]);
    const nic = await host.attach('web');
    for (const setting of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding']) {
      await writeSysctls({ [`net/${setting}`]: '0' });
      await host.networks.init(waiting());
      assert.equal(readSysctl(`net/${setting}`), '1', setting);
    }
    assert.deepEqual(host.events, [
      'web: IPv4 forwarding of the host was off and was turned on again',
      'web: IPv6 forwarding of the host was off and was turned on again',
    ]);
    closeFd(nic.tapFd);
    await host.detach('web');
    await writeSysctls({ 'net/ipv4/ip_forward': '0' });
    await host.networks.init(waiting());
    assert.equal(readSysctl('net/ipv4/ip_forward'), '0', 'without VMs it is none of ours');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-111: what can not be put back keeps nothing else from coming back', async () => {
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    const nic = await host.attach('web');
    const other = await host.attach('other', { bridge: 'br0' });
    await using broken = host.again([virbr0], {
      bridges: ['br0'],
      nft: await refusing(host.dir),
    });
    await broken.networks.adopt(knownAs('other', other), waiting());
    for (const { tap } of [nic, other]) await must('ip', 'link', 'set', tap, 'nomaster');
    await assert.rejects(broken.networks.init(waiting()), /nft refused the rules/);
    assert.match(await must('ip', 'link', 'show', other.tap), /master br0/);
    for (const { tapFd } of [nic, other]) closeFd(tapFd);
    for (const vm of ['web', 'other']) await host.detach(vm);
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a tap that an operator moved to another bridge stays there', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await must('ip', 'link', 'add', 'out1', 'type', 'bridge');
    await must('ip', 'link', 'set', nic.tap, 'master', 'out1');
    await host.networks.init(waiting());
    assert.match(await must('ip', 'link', 'show', nic.tap), /master out1/);
    closeFd(nic.tapFd);
    await must('ip', 'link', 'del', 'out1');
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a tap of a VM whose rules could not be made joins no bridge before they are there', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await must('ip', 'link', 'set', nic.tap, 'nomaster');
    await using broken = host.again([virbr0], { nft: await refusing(host.dir) });
    await assert.rejects(broken.networks.init(waiting()), /nft refused the rules/);
    assert.doesNotMatch(await must('ip', 'link', 'show', nic.tap), /master/);
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-114: a tap that is put back is down until it has its settings', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await must('ip', 'link', 'set', nic.tap, 'nomaster');
    await using monitor = await Monitor.open();
    await host.networks.adopt(knownAs('web', nic), waiting());
    const seen = (await monitor.until('end0')).filter((event) => event.includes(nic.tap));
    const ready = seen.findIndex((event) => /hairpin on/.test(event));
    assert.ok(ready > 0, seen.join('\n'));
    assert.match(seen[ready - 1] ?? '', /master virbr0/);
    assert.doesNotMatch(seen[ready - 1] ?? '', /[<,]UP[,>]/);
    assert.match(seen.at(-1) ?? '', /[<,]UP[,>]/);
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('what can not be put back is the error of init, and fingerprint only logs it', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using broken = host.again([virbr0], { nft: '/bin/false' });
    await assert.rejects(broken.networks.init(waiting()), /nft refused to list tables/);
    const attributes = await broken.networks.fingerprint(waiting());
    assert.equal(attributes['network.virbr0.state'], 'active');
    assert.match(broken.lines.join('\n'), /network not ready/);
    closeFd(nic.tapFd);
    await host.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('looking at a host without VMs makes nothing on it, and needs no nft', async () => {
    await using host = await Host.open([virbr0], { nft: '/nowhere/nft' });
    assert.equal((await host.networks.fingerprint(waiting()))['network.virbr0.state'], 'active');
    assert.deepEqual(host.lines, []);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25: with another address in the configuration VMs keep their network, rules first', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const before = await rules();
    await must('nft', 'flush', 'ruleset');
    await using changed = host.again([{ ...virbr0, address: '10.9.0.1' }]);
    await changed.networks.adopt(knownAs('web', nic), waiting());
    assert.equal(await rules(), before);
    const second = await changed.attach('second');
    assert.match(second.address?.ip ?? '', /^192\.168\.122\./);
    const told = changed.lines.filter((line) => /keeps its address/.test(line));
    assert.deepEqual(told, [
      'network keeps its address and MTU until its last VM is gone {"bridge":"virbr0","has":"192.168.122.1/24","gets":"10.9.0.1/24"}',
    ]);
    for (const [vm, { tapFd }] of [
      ['web', nic],
      ['second', second],
    ] as const) {
      closeFd(tapFd);
      await changed.detach(vm);
    }
    const third = await changed.attach('third');
    assert.match(third.address?.ip ?? '', /^10\.9\.0\./);
    closeFd(third.tapFd);
    await changed.detach('third');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25: a tap with a virtio header, as an earlier version made them, is taken up as it is', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    closeFd(nic.tapFd);
    const { fd } = await openTap(nic.tap, { offload: true });
    await using restarted = host.again();
    await restarted.networks.adopt(knownAs('web', nic), waiting());
    const tap = await must('ip', '-d', 'link', 'show', nic.tap);
    assert.match(tap, /master virbr0 /);
    assert.match(tap, /vnet_hdr on/);
    closeFd(fd);
    await restarted.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('D25: rules are back although the bridge is of no use any more', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    const before = await rules();
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'addr', 'add', '10.1.1.1/24', 'dev', 'virbr0');
    await must('ip', 'addr', 'del', '192.168.122.1/24', 'dev', 'virbr0');
    await using restarted = host.again();
    const adopted = restarted.networks.adopt(knownAs('web', nic), waiting());
    await assert.rejects(adopted, /bridge virbr0 exists with 10\.1\.1\.1\/24/);
    assert.equal(await rules(), before);
    closeFd(nic.tapFd);
    await restarted.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-114: a tap that is put back may talk to its own published port again', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web');
    await must('ip', 'link', 'set', nic.tap, 'nomaster');
    await host.networks.adopt(knownAs('web', nic), waiting());
    const port = await must('ip', '-d', 'link', 'show', nic.tap);
    assert.match(port, /master virbr0/);
    assert.match(port, /hairpin on/);
    closeFd(nic.tapFd);
    await host.detach('web');
  });

  test('V-117 D20: an undo that died after it had forgotten the network still takes the rules away', async () => {
    await using host = await Host.open();
    const nic = await host.attach('web', { ports: [web] });
    closeFd(nic.tapFd);
    await must('ip', 'link', 'del', 'virbr0');
    rmSync(join(host.dir, 'networks', 'virbr0'), { recursive: true });
    await host.networks.vmTerminatedTeardown({ kind: 'net-bridge', bridge: 'virbr0' }, waiting());
    assert.deepEqual(await leftovers(), nothing);
  });
});

function tableOf(ruleset: string, line: RegExp): readonly string[] {
  const [, family = '', name = ''] = line.exec(ruleset) ?? [];
  return [family, name];
}
