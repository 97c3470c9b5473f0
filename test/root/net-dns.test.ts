import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeFd } from '#host';
import { parseIpv6 } from '#spec';
import { Machine, must } from '../support/guest.ts';
import { nameServer } from '../support/name-server.ts';
import { command, inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, type TestNic, virbr0 } from '../support/networks.ts';
import { patient } from '../support/patience.ts';

const client = join(import.meta.dirname, '../support/dns-ask.ts');
const gateway = '192.168.122.1';
// A network whose other name server is the host itself, at its loopback.
const atLoopback = { ...virbr0, nameservers: ['127.0.0.53'] };

/** A guest's questions, one after the other; an answer each. */
async function ask(
  guest: Machine,
  questions: readonly string[],
  { transport = 'udp', server = gateway, ms = patient(4000) } = {},
): Promise<readonly string[]> {
  const args = [client, transport, server, String(ms), ...questions];
  const { output } = await guest.namespace.try(process.execPath, ...args);
  return output.trim().split('\n');
}

/** A guest with its address, as a VM that has booted. */
async function guestOf(nic: TestNic): Promise<Machine> {
  return (await Machine.guest(nic)).configure(nic.address);
}

async function listens(): Promise<void> {
  await must('ip', 'link', 'set', 'lo', 'up');
}

async function until(isReached: () => boolean): Promise<void> {
  const deadline = performance.now() + patient(4000);
  while (!isReached()) {
    assert.ok(performance.now() < deadline, `not reached: ${isReached}`);
    await sleep(5);
  }
}

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'busybox'], () => {
  test('V-110 V-144: guests of a network find each other by name, over UDP and TCP', async () => {
    await listens();
    await using host = await Host.open();
    const nics = {
      web: await host.attach('web', { hostname: 'web-1' }),
      db: await host.attach('db', { hostname: 'DB' }),
    };
    assert.deepEqual(nics.web.address?.nameservers, [gateway, '192.0.2.53']);
    assert.deepEqual(nics.web.address.searches, ['virbr0.internal']);
    await using web = await guestOf(nics.web);
    await using db = await guestOf(nics.db);
    const [webIp = '', dbIp = ''] = [nics.web.address.ip, nics.db.address?.ip];
    const reverse = `${webIp.split('.').toReversed().join('.')}.in-addr.arpa/PTR`;
    for (const transport of ['udp', 'tcp']) {
      const questions = [
        'db.virbr0.internal',
        'db',
        'db.virbr0.internal/AAAA',
        'x.virbr0.internal',
      ];
      const answers = await ask(web, questions, { transport });
      assert.deepEqual(answers, [`NOERROR ${dbIp}`, `NOERROR ${dbIp}`, 'NOERROR', 'NXDOMAIN']);
      assert.deepEqual(await ask(db, ['web-1', reverse], { transport }), [
        `NOERROR ${webIp}`,
        'NOERROR web-1.virbr0.internal',
      ]);
    }
    // By the resolver of a C library.
    const found = await web.namespace.run('busybox', 'nslookup', 'db.virbr0.internal', gateway);
    assert.match(found, new RegExp(`Address.*: *${dbIp}`));

    // A guest that comes is known at once, one that is gone no longer.
    const late = await host.attach('late');
    assert.deepEqual(await ask(web, ['late']), [`NOERROR ${late.address?.ip}`]);
    closeFd(late.tapFd);
    await host.detach('late');
    assert.deepEqual(await ask(web, ['late.virbr0.internal']), ['NXDOMAIN']);
    for (const one of [web, db]) await one.unplug();
    for (const vm of ['web', 'db']) await host.detach(vm);
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-144: over IPv6 names are answered as over IPv4, to guests alone', async () => {
    await listens();
    const elsewhere = '2001:db8:53::53';
    await must('ip', 'addr', 'add', elsewhere, 'dev', 'lo', 'nodad');
    await using _other = await nameServer(elsewhere);
    const address6 = 'fd12:3456:789a::1/64';
    await using host = await Host.open([
      { ...virbr0, nameservers: ['127.0.0.53', elsewhere], address6 },
    ]);
    const nics = [await host.attach('web'), await host.attach('db')] as const;
    assert.deepEqual(nics[0].address?.nameservers, [gateway, elsewhere]);
    await using web = await guestOf(nics[0]);
    await using db = await guestOf(nics[1]);
    const [webIp, dbIp] = nics.map((nic) => nic.address?.six?.ip ?? assert.fail());
    const digits = (parseIpv6(webIp ?? '') ?? 0n).toString(16).padStart(32, '0');
    const reverse = `${[...digits].toReversed().join('.')}.ip6.arpa/PTR`;
    const server = 'fd12:3456:789a::1';
    for (const transport of ['udp', 'tcp']) {
      const questions = ['db/AAAA', reverse, 'a.example.org'];
      assert.deepEqual(await ask(web, questions, { transport, server }), [
        `NOERROR ${dbIp}`,
        'NOERROR web.virbr0.internal',
        'NOERROR 198.51.100.7',
      ]);
      const past = await ask(web, ['a.example.org'], { transport, server: elsewhere });
      assert.deepEqual(past, ['NOERROR 198.51.100.7'], 'for the time without a plugin');
      // From an address of the link that no VM has.
      const [ms, stranger] = [700, 'fd12:3456:789a::fffe'];
      await db.namespace.ip('addr', 'add', `${stranger}/64`, 'dev', 'eth0', 'nodad');
      await db.namespace.ip('addr', 'del', `${dbIp}/64`, 'dev', 'eth0');
      const [unknown = ''] = await ask(db, ['web/AAAA'], { transport, server, ms });
      assert.doesNotMatch(unknown, /NOERROR/);
      await db.namespace.ip('addr', 'del', `${stranger}/64`, 'dev', 'eth0');
      await db.namespace.ip('addr', 'add', `${dbIp}/64`, 'dev', 'eth0', 'nodad');
    }
    await web.namespace.run('busybox', 'nslookup', 'db.virbr0.internal', server);
    for (const one of [web, db]) await one.unplug();
    for (const vm of ['web', 'db']) await host.detach(vm);
    await must('ip', 'addr', 'del', elsewhere, 'dev', 'lo');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('other names come from the configured name server, each question by another port and id', async () => {
    await listens();
    await using other = await nameServer('127.0.0.53');
    await using host = await Host.open([atLoopback]);
    await using guest = await guestOf(await host.attach('web'));
    const names = Array.from({ length: 20 }, (_, each) => `n${each}.example.org`);
    assert.deepEqual(
      await ask(guest, names),
      names.map(() => 'NOERROR 198.51.100.7'),
    );
    assert.deepEqual(
      other.asked.map(({ name }) => name),
      names,
    );
    for (const key of ['port', 'id'] as const) {
      const different = new Set(other.asked.map((each) => each[key]));
      assert.ok(different.size > 15, `${key}: ${[...different].join(' ')}`);
    }
    // The guest's own ids count from 1.
    assert.notDeepEqual(
      other.asked.map(({ id }) => id),
      names.map((_, at) => at + 1),
    );

    assert.deepEqual(await ask(guest, ['large.example.org']), ['NOERROR cut']);
    const [all = ''] = await ask(guest, ['large.example.org'], { transport: 'tcp' });
    assert.equal(all.match(/198\.51\.100\.7/g)?.length, 60);
    await guest.unplug();
    await host.detach('web');
  });

  test('a name server that is silent or gone is passed over', async () => {
    await listens();
    await using _other = await nameServer('127.0.0.54');
    await using host = await Host.open([{ ...virbr0, nameservers: ['127.0.0.55', '127.0.0.54'] }]);
    await using guest = await guestOf(await host.attach('web'));
    const answers = await ask(guest, ['a.example.org', 'b.example.org']);
    assert.deepEqual(answers, ['NOERROR 198.51.100.7', 'NOERROR 198.51.100.7']);
    await guest.unplug();
    await host.detach('web');
  });

  test("the host's own resolver is asked, at 127.0.0.53 too, and the gateway as such is no loop", async () => {
    await listens();
    await using other = await nameServer('127.0.0.53');
    const { nameservers: _, ...open } = virbr0;
    await using host = await Host.open([open]);
    const file = join(host.dir, 'resolv.conf');
    await writeFile(file, `nameserver ${gateway}\nnameserver 127.0.0.53\n`);
    await must('mount', '--bind', file, '/etc/resolv.conf');
    await using guest = await guestOf(await host.attach('web'));
    assert.deepEqual(await ask(guest, ['a.example.org']), ['NOERROR 198.51.100.7']);
    assert.equal(other.asked.length, 1);
    await must('umount', '/etc/resolv.conf');
    await guest.unplug();
    await host.detach('web');
  });

  test('a guest that is the name server itself is not asked its own question', async () => {
    await listens();
    await using host = await Host.open();
    const nic = await host.attach('dns');
    closeFd(nic.tapFd);
    await host.detach('dns');
    await using again = host.again([{ ...virbr0, nameservers: [nic.address?.ip ?? ''] }]);
    const same = await again.attach('dns');
    assert.equal(same.address?.ip, nic.address?.ip);
    await using guest = await guestOf(same);
    assert.deepEqual(await ask(guest, ['a.example.org']), ['SERVFAIL']);
    await guest.unplug();
    await again.detach('dns');
  });

  test('nothing but the guests of its network is answered', async () => {
    await listens();
    await using other = await nameServer('127.0.0.53');
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
      six: { hostAddress: '2001:db8:2::1', address: '2001:db8:2::9' },
    });
    await outside.namespace.ip('route', 'add', 'default', 'via', '192.0.2.1');
    await outside.namespace.ip('-6', 'route', 'add', 'default', 'via', '2001:db8:2::1');
    const gateway6 = 'fd12:3456:789a::1';
    const first = { ...atLoopback, address6: `${gateway6}/64`, hostAccess: 'open' } as const;
    const second = { ...atLoopback, bridge: 'nq1', address: '10.9.0.1', address6: 'fd77::1/64' };
    await using host = await Host.open([first, second]);
    await using guest = await guestOf(await host.attach('web'));
    await using foreign = await guestOf(await host.attach('far', { bridge: 'nq1' }));
    assert.deepEqual(await ask(guest, ['web', 'far']), [
      `NOERROR ${await guestAddress(guest)}`,
      'NOERROR 198.51.100.7',
    ]);
    const before = other.asked.length;
    const port = await listeningPort();
    const questions = ['web', 'a.example.org'];
    const isRefused = (answers: readonly string[]): void => {
      assert.doesNotMatch(answers.join(' '), /NOERROR|NXDOMAIN/);
    };
    const quick = { ms: 300 };
    assert.match((await ask(guest, ['web/AAAA'], { server: gateway6 })).join(), /^NOERROR fd12:/);
    for (const server of [gateway, '192.0.2.1', gateway6, '2001:db8:2::1']) {
      isRefused(await ask(outside, questions, { ...quick, server }));
    }
    for (const server of [gateway, gateway6]) {
      isRefused(await ask(foreign, questions, { ...quick, server }));
      const onHost = await command(process.execPath, client, 'udp', server, '300', ...questions);
      isRefused([onHost.output]);
      // By its real port.
      const direct = server === gateway6 ? `[${gateway6}]:${port}` : `${gateway}:${port}`;
      for (const machine of [outside, foreign]) {
        isRefused(await ask(machine, questions, { ...quick, server: direct }));
      }
    }
    assert.equal(other.asked.length, before);
    for (const one of [guest, foreign]) await one.unplug();
    for (const vm of ['web', 'far']) await host.detach(vm);
  });

  test('a guest with many open questions takes nothing from another', async () => {
    await listens();
    await using other = await nameServer('127.0.0.53');
    await using host = await Host.open([atLoopback]);
    await using greedy = await guestOf(await host.attach('greedy'));
    await using modest = await guestOf(await host.attach('modest'));
    const flood = `
      const { createSocket } = require('node:dgram');
      const socket = createSocket('udp4');
      const q = (n) => Buffer.concat([Buffer.from([0, n & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6]),
        Buffer.from('silent'), Buffer.from([3]), Buffer.from('org'), Buffer.from([0, 0, 1, 0, 1])]);
      let n = 0;
      socket.connect(53, '${gateway}', () => {
        const timer = setInterval(() => {
          for (let each = 0; each < 50; each++) socket.send(q(n++), () => {});
          if (n >= 3000) { clearInterval(timer); socket.close(); }
        }, 5);
      });`;
    const since = performance.now();
    const flooding = greedy.namespace.try(process.execPath, '-e', flood);
    await until(() => other.asked.length >= 64);
    const answers = await ask(modest, ['greedy', 'a.example.org', 'b.example.org']);
    assert.match(answers.join(' '), /^NOERROR 192\S+ NOERROR 198\S+ NOERROR 198\S+$/);
    await flooding;
    // Each waits for 2 s: 64 at a time, of 3000.
    const most = 64 * Math.ceil((performance.now() - since) / 2000 + 1);
    const silent = other.asked.filter(({ name }) => name.startsWith('silent')).length;
    assert.ok(silent >= 64 && silent <= most, `${silent} were passed on, not ${most}`);
    for (const one of [greedy, modest]) await one.unplug();
    for (const vm of ['greedy', 'modest']) await host.detach(vm);
  });

  test('while no plugin runs guests learn so at once, and the next one answers', async () => {
    await listens();
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using guest = await guestOf(nic);
    assert.deepEqual(await ask(guest, ['web']), [`NOERROR ${nic.address?.ip}`]);
    await host.networks[Symbol.asyncDispose]();
    for (const transport of ['udp', 'tcp']) {
      assert.deepEqual(await ask(guest, ['web'], { transport }), ['ECONNREFUSED']);
    }
    await using next = host.again();
    const { tap, mac, bridge, portMap } = nic;
    const record = { tap, mac, bridge, portMap, ip: nic.address?.ip };
    await next.networks.adopt(
      { vm: 'web', index: 0, record },
      {
        signal: AbortSignal.timeout(patient(5000)),
      },
    );
    assert.deepEqual(await ask(guest, ['web']), [`NOERROR ${nic.address?.ip}`]);

    // Two processes on one state, as under two names of the driver: each can answer, for all guests.
    await using twin = host.again();
    const late = await twin.attach('late');
    const names = Array.from({ length: 16 }, () => 'late.virbr0.internal');
    const known = `NOERROR ${late.address?.ip}`;
    // Which of the two gets a question depends on its port: 16 are enough to reach both.
    await untilTrue(async () => (await ask(guest, names)).every((answer) => answer === known));
    assert.deepEqual(await ask(guest, ['web']), [`NOERROR ${nic.address?.ip}`]);
    closeFd(late.tapFd);
    await guest.unplug();
    await twin.detach('late');
    await next.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('agents that share a bridge answer their own guests each', async () => {
    await listens();
    await using one = await Host.open();
    await using two = await Host.open();
    const nics = [await one.attach('web'), await two.attach('web2')] as const;
    await using first = await guestOf(nics[0]);
    await using second = await guestOf(nics[1]);
    for (let each = 0; each < 4; each++) {
      assert.deepEqual(await ask(first, ['web', 'web2.virbr0.internal']), [
        `NOERROR ${nics[0].address?.ip}`,
        'NXDOMAIN',
      ]);
      assert.deepEqual(await ask(second, ['web2']), [`NOERROR ${nics[1].address?.ip}`]);
    }
    for (const guest of [first, second]) await guest.unplug();
    await one.detach('web');
    await two.detach('web2');
  });

  test('with dns = false a network is as it was: the name servers of others, and port 53 of no use', async () => {
    await listens();
    await using host = await Host.open([{ ...virbr0, dns: false }]);
    const nic = await host.attach('web');
    assert.deepEqual(nic.address?.nameservers, ['192.0.2.53']);
    assert.deepEqual(nic.address.searches, []);
    await using guest = await guestOf(nic);
    assert.deepEqual(await ask(guest, ['web']), ['ECONNREFUSED']);
    await guest.unplug();
    await host.detach('web');
  });

  test('of the name servers of the host a guest reaches those that it was given', async () => {
    await listens();
    for (const address of ['10.77.0.1', '10.77.0.2'])
      await must('ip', 'addr', 'add', address, 'dev', 'lo');
    await using _first = await nameServer('10.77.0.1', '198.51.100.1');
    await using _second = await nameServer('10.77.0.2', '198.51.100.2');
    await using host = await Host.open([{ ...virbr0, nameservers: ['10.77.0.1'] }]);
    await using guest = await guestOf(await host.attach('web'));
    assert.deepEqual(await ask(guest, ['a.org'], { server: '10.77.0.1' }), [
      'NOERROR 198.51.100.1',
    ]);
    const [closed] = await ask(guest, ['a.org'], { ms: 500, server: '10.77.0.2' });
    assert.match(closed ?? '', /ECONNREFUSED|EHOSTUNREACH|no reply/);
    await guest.unplug();
    await host.detach('web');
  });

  test('a guest may publish port 53: others use it, and guests keep the name server of their network', async () => {
    await listens();
    await using host = await Host.open();
    const port = { label: 'dns', hostIp: '', hostPort: 53, guestPort: 53 };
    const nic = await host.attach('dns', { ports: [port] });
    await using guest = await guestOf(nic);
    assert.deepEqual(await ask(guest, ['dns']), [`NOERROR ${nic.address?.ip}`]);
    await guest.unplug();
    await host.detach('dns');
  });

  test('a question on its way is answered, although another guest publishes port 53 meanwhile', async () => {
    await listens();
    await using upstream = await nameServer('127.0.0.53');
    await using host = await Host.open([atLoopback]);
    await using guest = await guestOf(await host.attach('web'));
    const answer = ask(guest, ['slow.org']);
    await until(() => upstream.asked.length > 0);
    const port = { label: 'dns', hostIp: gateway, hostPort: 53, guestPort: 53 };
    await host.attach('dns', { ports: [port] });
    assert.deepEqual(await answer, ['NOERROR 198.51.100.7']);
    await guest.unplug();
    await host.detach('web');
    await host.detach('dns');
  });
});

async function guestAddress(guest: Machine): Promise<string> {
  const shown = await guest.namespace.ip('-4', '-o', 'addr', 'show', 'eth0');
  return /inet ([\d.]+)/.exec(shown)?.[1] ?? '';
}

/** Where the name server really is. */
async function listeningPort(): Promise<string> {
  const { output } = await command('nft', 'list', 'ruleset');
  return new RegExp(`"virbr0" \\. ${gateway} \\. (\\d+)`).exec(output)?.[1] ?? assert.fail(output);
}

async function untilTrue(isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + patient(5000);
  while (!(await isTrue())) assert.ok(performance.now() < deadline, 'not in time');
}
