import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, waiting } from '../support/networks.ts';

const recorded = join(import.meta.dirname, '../net/libvirt');
const ofIptables = readFileSync(join(recorded, 'libvirt-9.0.0.iptables'), 'utf8');
const ofNft = readFileSync(join(recorded, 'libvirt-11.3.0.nft'), 'utf8');
const lan = { link: 'out0', hostAddress: '192.0.2.1', address: '192.0.2.9' };
const port = { label: 'web', hostIp: '', hostPort: 8080, guestPort: 80 };

/** How libvirt makes the rules of its network `default`. */
interface Backend {
  /** Where they reject, and what lets the guests pass. */
  readonly chain: string;
  readonly remedy: (way: 'i' | 'o') => string;
  start(host: Host): Promise<void>;
  /** As libvirtd does when it starts: its own chains anew, at the places where they are. */
  restart(host: Host): Promise<void>;
  stop(): Promise<void>;
}

const iptables = (program: string, table: string, stop: () => Promise<void>): Backend => {
  const load = async (host: Host, text: string): Promise<void> => {
    const file = join(host.dir, 'rules');
    await writeFile(file, text);
    await must(`${program}-restore`, '--noflush', file);
  };
  return {
    chain: `${table} LIBVIRT_FWI`,
    remedy: (way) => `${program} -I FORWARD -${way} virbr0 -j ACCEPT`,
    start: (host) => load(host, ofIptables),
    restart: (host) => load(host, ofIptables.replaceAll(/^-A [A-Z]+ .*\n/gm, '')),
    stop,
  };
};

const loadNft = async (host: Host, text: string): Promise<void> => {
  const file = join(host.dir, 'rules');
  await writeFile(file, text);
  await must('nft', '-f', file);
};

const backends: Readonly<Record<string, Backend>> = {
  iptables: iptables('iptables', 'ip filter', async () => {
    for (const table of ['filter', 'nat', 'mangle']) await must('nft', 'delete table ip', table);
  }),
  'iptables-legacy': iptables('iptables-legacy', 'iptables-legacy filter', async () => {
    for (const table of ['filter', 'nat', 'mangle']) {
      for (const what of ['-F', '-X']) await must('iptables-legacy', '-t', table, what);
    }
  }),
  nft: {
    chain: 'ip libvirt_network guest_input',
    remedy: (way) => `nft insert rule ip libvirt_network forward ${way}ifname virbr0 accept`,
    start: (host) => loadNft(host, ofNft),
    restart: async (host) => {
      const own = ofNft.replace(/^\tchain forward .*?^\t\}\n/ms, '');
      const names = [...own.matchAll(/chain (\S+)/g)].map(([, name]) => name);
      const flush = names.map((name) => `flush chain ip libvirt_network ${name}\n`).join('');
      await loadNft(host, flush + own);
    },
    stop: async () => {
      await must('nft', 'delete table ip libvirt_network');
    },
  },
};

/** The events of one look at the host. */
async function look(host: Host): Promise<readonly string[]> {
  const before = host.events.length;
  await host.networks.init(waiting());
  return host.events.slice(before);
}

const programs = ['ip', 'nft', 'iptables-restore', 'iptables-legacy-restore', 'nsenter', 'cat'];

inOwnNetns(import.meta.url, programs, () => {
  test("guests on the bridge of libvirt's network are reached with the command of the event, also when libvirtd starts again", async () => {
    await must('ip', 'link', 'add', 'virbr0', 'type', 'bridge');
    await must('ip', 'addr', 'add', '192.168.122.1/24', 'dev', 'virbr0');
    await must('ip', 'link', 'set', 'virbr0', 'up');
    await using host = await Host.open();
    await using outside = await Machine.outside(lan);
    await outside.serve(80, 'lan');
    const web = await host.attach('web', { ports: [port] });
    assert.deepEqual(web.notes, [
      'Bridge virbr0 was not made by the driver, which filters nothing there and does not keep the guest from the host. ' +
        "Where another DHCP server answers, a guest that reads no seed gets another address than the driver's",
    ]);
    await using guest = await Machine.guest(web);
    await guest.configure(web.address);
    await guest.serve(80, 'web');
    await outside.askUntil('tcp', '192.0.2.1', 8080, /^web saw 192\.0\.2\.9/);
    for (const [name, backend] of Object.entries(backends)) {
      await backend.start(host);
      const command = `${backend.remedy('i')} && ${backend.remedy('o')}`;
      const what = 'web: Firewall rules of this host may drop packets of bridge virbr0';
      const event = `${what}: ${backend.chain}. To let them pass: ${command}`;
      assert.deepEqual(await look(host), [event]);
      await outside.askInVain('tcp', '192.0.2.1', 8080);
      await must('sh', '-c', command);
      assert.deepEqual(await look(host), [], name);
      await backend.restart(host);
      assert.deepEqual(await look(host), [], name);
      assert.match(await outside.ask('tcp', '192.0.2.1', 8080), /^web saw 192\.0\.2\.9/, name);
      assert.match(await guest.ask('tcp', '192.0.2.9', 80), /^lan saw 192\.0\.2\.1/, name);
      await backend.stop();
    }
    await guest.unplug();
    await host.detach('web');
    await must('ip', 'link', 'del', 'virbr0');
    await must('nft', 'flush', 'ruleset');
  });
});
