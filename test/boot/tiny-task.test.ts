import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { askFromHost, Machine, must } from '../support/guest.ts';
import {
  groundFor,
  guestOrSkip,
  guestSpec,
  port,
  powerOff,
  remoteShell,
  runIn,
  told,
  until,
} from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import { leftovers, nothing } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { findVirtiofsd } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { soon } from '../support/vm.ts';

const MiB = 2 ** 20;
const web = '127.0.0.1:8080';

/** A task's three directories, with something in each; `link` leads from one directory of the share to another. */
function taskDirectories(root: string): { readonly alloc: string; readonly shares: string[] } {
  const alloc = join(root, 'alloc', 'alloc');
  const shares = [
    alloc,
    join(root, 'alloc', 'task', 'local'),
    join(root, 'alloc', 'task', 'secrets'),
  ];
  for (const dir of shares) mkdirSync(dir, { recursive: true });
  mkdirSync(join(alloc, 'data'));
  mkdirSync(join(root, 'outside'));
  writeFileSync(join(alloc, 'data', 'hello'), 'from the allocation\n');
  symlinkSync('data', join(alloc, 'link'));
  symlinkSync('../../outside', join(alloc, 'escape'));
  writeFileSync(join(shares[1] ?? '', 'config'), 'a template\n');
  writeFileSync(join(shares[2] ?? '', 'token'), 'very secret\n', { mode: 0o600 });
  return { alloc, shares };
}

/** Every name below, with kind, mode, size and time: what a write would change. */
function picture(root: string): readonly string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => /^(alloc|outside)\b/.test(name))
    .toSorted()
    .map((name) => {
      const { mode, size, mtimeMs, ino } = statSync(join(root, name));
      return `${name} ${mode.toString(8)} ${size} ${mtimeMs} ${ino}`;
    });
}

const attempts: readonly string[] = [
  'echo x > /alloc/new',
  'echo x >> /alloc/data/hello',
  'mkdir /alloc/dir',
  'rm /alloc/data/hello',
  'mv /alloc/data /alloc/other',
  'chmod 777 /alloc/data',
  'touch /alloc/data/hello',
  'ln -s / /alloc/root',
  'echo x > /alloc/link/new',
  'echo x > /alloc/link/hello',
  'echo x > /alloc/escape/new',
  'echo x > /local/config',
  'rm /secrets/token',
  'echo x > /secrets/token',
];

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter'], () => {
  test('a task on a real guest, from its start to its end', async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
    });
    await using ground = groundFor(guest);
    const { alloc, shares } = taskDirectories(ground.root);
    const pipes = ground.pipes();
    const log = ground.read(pipes.stdoutPath);
    const virtualizer = ground.virtualizer();
    const [allocDir = '', localDir = '', secretsDir = ''] = shares;
    const spec = guestSpec(ground, guest, {
      ...pipes,
      nics: [
        {
          kind: 'bridge',
          bridge: 'virbr0',
          ports: [port('http', 8080, 80), port('echo', 7777, 7777)],
        },
      ],
      shares: [
        { tag: 'allocDir', source: allocDir, target: '/alloc', readOnly: true },
        { tag: 'localDir', source: localDir, target: '/local', readOnly: true },
        { tag: 'secretsDir', source: secretsDir, target: '/secrets', readOnly: true },
      ],
      guest: {
        ...ground.spec(0).guest,
        hostname: 'shop-7',
        userData: { kind: 'inline', text: remoteShell() },
      },
    });
    const begin = performance.now();
    const domain = await virtualizer.createDomain(spec, soon(60_000));
    const startedMs = performance.now() - begin;
    const { network } = domain;

    await t.test(
      'V-122 D17 D38: the address is known at once, long before the guest has it',
      async () => {
        assert.doesNotMatch(
          log.text,
          /TINY-INIT/,
          'the guest had booted before its start was answered',
        );
        assert.ok(startedMs < patient(5000), `the start took ${startedMs} ms`);
        assert.match(network?.ip ?? '', /^192\.168\.122\.\d+$/);
        assert.match(network?.mac ?? '', /^52(:[0-9a-f]{2}){5}$/);
        assert.deepEqual(network, {
          ip: network?.ip,
          mac: network?.mac,
          bridge: 'virbr0',
          portMap: { http: 80, echo: 7777 },
        });
        await told(log, /TINY-READY/, 120_000);
        const bootedMs = performance.now() - begin;
        assert.ok(startedMs < bootedMs / 2, `start ${startedMs} ms, boot ${bootedMs} ms`);
      },
    );
    const status = await runIn(web, 'status.sh');
    const has = (line: string): void => {
      assert.ok(
        status.split('\n').some((it) => it.trimEnd() === line),
        `${line}\nis not in\n${status}`,
      );
    };

    await t.test('V-57 V-63 V-120: name and address come from the seed', () => {
      has('hostname=shop-7');
      has(`nic=eth0 mac=${network?.mac} mtu=1500`);
      has(`address=eth0 ${network?.ip}/24`);
      has('configured=eth0 static');
      has('gateway=via 192.168.122.1 dev eth0');
      has('nameserver=192.0.2.53');
    });

    await t.test('V-56 D39: the seed is a disc on a virtio block device', () => {
      assert.match(log.text, /^TINY-CIDATA \/dev\/vdb\r?$/m);
    });

    await t.test('V-142: the guest can distinguish its disks by serial number', async () => {
      assert.equal(
        await runIn(web, 'cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial'),
        'primary\ncidata',
      );
    });

    await t.test('V-105: the console is the log', () => {
      assert.match(log.text, new RegExp(`^GUEST-STATIC eth0 ${network?.ip}\\r?$`, 'm'));
    });

    await t.test('an image that boots by BIOS is not given other firmware', () => {
      assert.equal(existsSync(ground.paths().firmwareVars), false);
    });

    for (const protocol of ['tcp', 'udp'] as const) {
      const [hostPort, guestPort, expected] =
        protocol === 'tcp' ? [8080, 80, 'hello from shop-7'] : [7777, 7777, '?'];
      await t.test(
        `V-112 V-114 V-115 D19 D42: a ${protocol} port answers from everywhere`,
        async () => {
          assert.equal(await askFromHost(protocol, '127.0.0.1', hostPort), expected);
          assert.equal(await askFromHost(protocol, '192.0.2.1', hostPort), expected);
          assert.equal(await outside.ask(protocol, '192.0.2.1', hostPort), expected);
          assert.equal(await askFromHost(protocol, network?.ip ?? '', guestPort), expected);
        },
      );
    }

    await t.test('V-67 V-68: directories are mounted and show what the task has', async (t) => {
      if (!requireOrSkip(t, findVirtiofsd() !== undefined, 'needs virtiofsd')) return;
      for (const [tag, place] of [
        ['allocDir', '/alloc'],
        ['localDir', '/local'],
        ['secretsDir', '/secrets'],
      ]) {
        assert.match(status, new RegExp(`^mount=${tag} ${place} virtiofs `, 'm'));
      }
      assert.equal(
        await runIn(web, 'cat /alloc/data/hello /alloc/link/hello /local/config /secrets/token'),
        'from the allocation\nfrom the allocation\na template\nvery secret',
      );
      writeFileSync(join(alloc, 'data', 'later'), 'written while the guest runs\n');
      assert.equal(await runIn(web, 'cat /alloc/data/later'), 'written while the guest runs');
    });

    await t.test('V-67 V-68: whatever root in the guest tries, nothing is written', async (t) => {
      if (!requireOrSkip(t, findVirtiofsd() !== undefined, 'needs virtiofsd')) return;
      const before = picture(ground.root);
      // The guest's own mount may be as writable as it likes: it is the host that refuses.
      const script = ['mount -o remount,rw /alloc', ...attempts].map(
        (it) => `(${it}) && echo 'DONE ${it}'`,
      );
      const answer = await runIn(web, script.join('\n'));
      const done = answer.split('\n').filter((line) => line.startsWith('DONE '));
      assert.deepEqual(
        done.filter((line) => !line.includes('remount')),
        [],
      );
      assert.match(answer, /Read-only file system/);
      assert.deepEqual(picture(ground.root), before);
    });

    await t.test("V-82 V-102 D16: usage has the guest's memory, from the balloon", async () => {
      const usage = await until(
        () => domain.usage(soon()),
        (it) => it.guestTotalBytes !== undefined,
        20_000,
      );
      const total = usage.guestTotalBytes ?? 0;
      const used = usage.guestUsedBytes ?? 0;
      assert.ok(total > 64 * MiB && total <= guest.memoryMiB * MiB, `total ${total}`);
      assert.ok(used > 2 * MiB && used < total, `used ${used}`);
      assert.ok(usage.rssBytes > 32 * MiB && usage.rssBytes < 2048 * MiB, `rss ${usage.rssBytes}`);
      assert.ok(usage.cpuUserNs > 500_000_000, `cpu ${usage.cpuUserNs}`);
      assert.ok(usage.pids.includes(domain.record.pid));
      const helpers = findVirtiofsd() === undefined ? 0 : 3;
      assert.ok(usage.pids.length > helpers, 'the helpers count as well');
    });

    await t.test('V-87: the agent in the guest is asked to shut down', async () => {
      const exit = await powerOff(virtualizer, domain);
      assert.ok(ground.told().includes('Guest agent was asked to shut down the guest'));
      assert.ok(!ground.told().includes('ACPI power button pressed'));
      assert.deepEqual(exit, {
        exitCode: 0,
        signal: 0,
        oomKilled: false,
        error: undefined,
        reason: 'guest-shutdown',
      });
      await log.ended;
      assert.match(log.text, /GUEST-POWEROFF/);
    });

    await t.test('V-98 V-118: nothing is left', async () => {
      await virtualizer.destroyDomain(domain.name);
      assert.deepEqual(await leftovers(), nothing);
      assert.deepEqual(await ground.leftovers(), []);
      assert.ok(existsSync(join(alloc, 'data', 'hello')), "the task's own files stay");
      assert.equal(readFileSync(join(secretsDir, 'token'), 'utf8'), 'very secret\n');
    });
  });
});
