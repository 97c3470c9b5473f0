import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd, findProgram } from '#host';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0, waiting } from '../support/networks.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';

const network6 = { ...virbr0, address6: 'fd12:3456:789a::1/64' };
const lan = {
  link: 'out0',
  hostAddress: '192.0.2.1',
  address: '192.0.2.9',
  six: { hostAddress: '2001:db8:2::1', address: '2001:db8:2::9' },
};
const dnsClient = join(import.meta.dirname, '../support/dns-ask.ts');
const bridged = '/proc/sys/net/bridge/bridge-nf-call-iptables';

async function chain(table: string, name: string, hook: string, ...rules: readonly string[]) {
  await must('nft', 'add', 'table', 'ip', table);
  await must('nft', 'add', 'chain', 'ip', table, name, hook);
  for (const rule of rules) await must('nft', 'add', 'rule', 'ip', table, name, rule);
}

/** Attaches and detaches; what was said of the NIC. */
async function notes(host: Host, vm: string, bridge = 'virbr0'): Promise<readonly string[]> {
  const nic = await host.attach(vm, { bridge });
  closeFd(nic.tapFd);
  await host.detach(vm);
  return nic.notes;
}

/** What the name server there gives the guest. */
async function nameOf(
  guest: Machine,
  name: string,
  server: string,
  ms = patient(5000),
): Promise<string> {
  const args = [dnsClient, 'udp', server, String(ms), name];
  return (await guest.namespace.try(process.execPath, ...args)).output.trim();
}

const said = (host: Host): readonly string[] =>
  host.lines.filter((line) => /other firewall rules/.test(line));
const forward = (policy: string): string =>
  `{ type filter hook forward priority 0; policy ${policy}; }`;

inOwnNetns(import.meta.url, ['ip', 'nft', 'iptables', 'ip6tables', 'nsenter', 'cat'], () => {
  test('what stands in the way of guests is reported for each VM and logged once, until it is put right', async () => {
    await using host = await Host.open();
    await chain('filter', 'FORWARD', forward('drop'));
    const expected = [
      'Firewall rules of this host may drop packets of bridge virbr0: ip filter FORWARD. To let them pass: ' +
        'iptables -I FORWARD -i virbr0 -j ACCEPT && iptables -I FORWARD -o virbr0 -j ACCEPT',
    ];
    assert.deepEqual(await notes(host, 'web'), expected);
    assert.deepEqual(await notes(host, 'other'), expected);
    assert.equal(said(host).length, 1);
    assert.match(said(host)[0] ?? '', /drop packets of guests .*ip filter FORWARD/);
    await must('nft', 'insert', 'rule', 'ip', 'filter', 'FORWARD', 'iifname virbr0 accept');
    assert.deepEqual(await notes(host, 'web'), []);
    await must('nft', 'flush', 'ruleset');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('the commands in the event let guests pass what other programs have put in their way', async () => {
    await using outside = await Machine.outside(lan);
    await using host = await Host.open([network6]);
    // A firewall that comes after the first VM is noticed, too.
    assert.deepEqual(await notes(host, 'early'), []);
    for (const program of ['iptables', 'ip6tables']) {
      await must(program, '-P', 'FORWARD', 'DROP');
      await must(program, '-A', 'INPUT', '-i', 'out0', '-j', 'ACCEPT');
      await must(program, '-P', 'INPUT', 'DROP');
      await must(program, '-N', 'DOCKER-USER');
      await must(program, '-A', 'FORWARD', '-j', 'DOCKER-USER');
    }
    await chain('mine', 'last', forward('accept'), 'oifname "virbr0" drop', 'counter reject');
    const port = { label: 'p', hostIp: '', hostPort: 8080, guestPort: 80 };
    const web = await host.attach('web', { ports: [port] });
    const [note = '', ...others] = web.notes;
    assert.deepEqual(others, []);
    assert.match(
      note,
      /: ip filter FORWARD, ip filter INPUT, ip6 filter FORWARD, ip6 filter INPUT, ip mine last\. To let them pass: /,
    );
    await using guest = await Machine.guest(web);
    await guest.configure(web.address);
    await guest.serve(80, 'web', '::');
    assert.match(await nameOf(guest, 'web', '192.168.122.1', 700), /timed out|no reply|^$/);
    for (const command of note.replace(/.*To let them pass: /, '').split('; ')) {
      await must('sh', '-c', command);
    }
    for (const address of ['192.0.2.1', '2001:db8:2::1']) {
      assert.match(await outside.ask('tcp', address, 8080), /^web saw /);
    }
    for (const gateway of ['192.168.122.1', 'fd12:3456:789a::1']) {
      assert.match(await nameOf(guest, 'web', gateway), /192\.168\.122\./);
    }
    // What lets guests ask for names opens nothing else of the host.
    await using secret = createServer().listen(8500, '0.0.0.0');
    await once(secret, 'listening');
    await guest.askInVain('tcp', '192.168.122.1', 8500);
    assert.deepEqual(await notes(host, 'late'), []);
    await guest.unplug();
    await host.detach('web');
    await must('nft', 'flush', 'ruleset');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a firewall that comes while VMs run is reported to each of them once, and again after it was gone', async () => {
    await using host = await Host.open();
    const early = await host.attach('early');
    const look = async (): Promise<readonly string[]> => {
      const before = host.events.length;
      await host.networks.init(waiting());
      return host.events.slice(before).map((event) => event.replace(/ may drop .*/, ''));
    };
    assert.deepEqual(await look(), []);
    for (const round of ['first', 'second']) {
      await chain('filter', 'FORWARD', forward('drop'));
      const late = await host.attach(`late-${round}`);
      assert.equal(late.notes.length, 1);
      assert.deepEqual(await look(), ['early: Firewall rules of this host']);
      assert.deepEqual(await look(), []);
      closeFd(late.tapFd);
      await host.detach(`late-${round}`);
      await must('nft', 'delete', 'table', 'ip', 'filter');
      assert.deepEqual(await look(), []);
    }
    closeFd(early.tapFd);
    await host.detach('early');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('V-109: a firewall that comes while VMs run on a bridge of others is reported to each of them', async (t) => {
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await using host = await Host.open([virbr0], { bridges: ['br0'] });
    const web = await host.attach('web', { bridge: 'br0' });
    await using restarted = host.again([virbr0], { bridges: ['br0'] });
    await restarted.networks.adopt({ vm: 'web', index: 0, record: web.record }, waiting());
    const look = async (plugin: Host): Promise<readonly string[]> => {
      const before = plugin.events.length;
      await plugin.networks.init(waiting());
      return plugin.events.slice(before);
    };
    const expected = (chain: string, link: string): string =>
      `web: Firewall rules of this host may drop packets of bridge br0: ${chain}. To let them pass: ` +
      `nft insert rule ${chain} iifname ${link} accept && nft insert rule ${chain} oifname ${link} accept`;
    for (const plugin of [host, restarted]) {
      assert.deepEqual(await look(plugin), []);
      await must('nft', `table bridge a { chain c ${forward('drop')}; }`);
      assert.deepEqual(await look(plugin), [expected('bridge a c', 'qmp*')]);
      assert.deepEqual(await look(plugin), []);
      await must('nft', 'insert rule bridge a c iifname qmp* accept');
      assert.deepEqual(await look(plugin), []);
      await must('nft', 'flush', 'ruleset');
    }
    if (requireOrSkip(t, existsSync(bridged), 'needs br_netfilter')) {
      writeFileSync(bridged, '0');
      await must('nft', `table ip b { chain c ${forward('drop')}; }`);
      assert.deepEqual(await look(host), []);
      // As kubelet does, for instance.
      writeFileSync(bridged, '1');
      assert.deepEqual(await look(host), [expected('ip b c', 'br0')]);
      writeFileSync(bridged, '0');
    }
    closeFd(web.tapFd);
    await host.detach('web');
    assert.deepEqual(await look(host), []);
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'link', 'del', 'br0');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('rules without a policy count too, and for a bridge that was there', async () => {
    await using host = await Host.open();
    await must('ip', 'link', 'add', 'virbr0', 'type', 'bridge');
    await must('ip', 'addr', 'add', '192.168.122.1/24', 'dev', 'virbr0');
    await chain('mine', 'last', forward('accept'), 'ct state established accept', 'counter reject');
    await chain('theirs', 'forward', forward('accept'), 'oifname "virbr0" counter drop');
    const [, ...found] = await notes(host, 'web');
    assert.deepEqual(found, [
      'Firewall rules of this host may drop packets of bridge virbr0: ip mine last, ip theirs forward. To let them pass: ' +
        ['mine last', 'theirs forward']
          .map((to) => {
            const insert = (way: string) => `nft insert rule ip ${to} ${way}ifname virbr0 accept`;
            return `${insert('i')} && ${insert('o')}`;
          })
          .join('; '),
    ]);
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'link', 'del', 'virbr0');
  });

  test('a bridge that the host does not route for is looked at where its frames pass the rules', async (t) => {
    if (!requireOrSkip(t, existsSync(bridged), 'needs br_netfilter')) return;
    await must('ip', 'link', 'add', 'br0', 'type', 'bridge');
    await chain('filter', 'FORWARD', forward('drop'));
    for (const [setting, count] of [
      ['0', 0],
      ['1', 1],
    ] as const) {
      await using host = await Host.open([virbr0], { bridges: ['br0'] });
      writeFileSync(bridged, setting);
      assert.equal((await notes(host, 'web', 'br0')).length, count);
    }
    writeFileSync(bridged, '0');
    await must('nft', 'flush', 'ruleset');
    await must('ip', 'link', 'del', 'br0');
  });

  const broken = {
    'that fails': 'exit 1',
    'with too much output': 'head -c 6000000 /dev/zero',
  };
  for (const [name, what] of Object.entries(broken)) {
    test(`V-117: an nft ${name} when asked for all rules fails no VM`, async () => {
      const dir = await mkdtemp(join(tmpdir(), 'nq-nft-'));
      const nft = join(dir, 'nft');
      const real = findProgram('nft') ?? '';
      await writeFile(
        nft,
        `#!/bin/sh\ncase "$*" in *ruleset*) ${what};; *) exec ${real} "$@";; esac\n`,
      );
      await chmod(nft, 0o755);
      await using host = await Host.open([virbr0], { nft });
      assert.deepEqual(await notes(host, 'web'), []);
      assert.deepEqual(await notes(host, 'other'), []);
      assert.equal(said(host).length, 1);
      assert.match(said(host)[0] ?? '', /could not be read/);
      assert.deepEqual(await leftovers(), nothing);
      await rm(dir, { recursive: true });
    });
  }

  test('a host with a great many such chains is named in few words', async () => {
    await using host = await Host.open();
    for (let at = 0; at < 12; at++) await chain(`table${at}`, 'c', forward('drop'));
    const [note = ''] = await notes(host, 'web');
    assert.match(note, /ip table7 c, 4 more\. To let them pass: nft insert rule ip table0 c /);
    await must('nft', 'flush', 'ruleset');
  });
});
