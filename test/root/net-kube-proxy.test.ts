import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0, waiting } from '../support/networks.ts';

const recorded = (file: string): string => join(import.meta.dirname, 'kube-proxy', file);
const network6 = { ...virbr0, address6: 'fd12:3456:789a::1/64' };
const port = (hostPort: number) => ({ label: 'http', hostIp: '', hostPort, guestPort: 80 });
const nodePort = 30080;

/** How kube-proxy's rules, as recorded, come and go; what leads its NodePort away, and how to see that. */
const modes = {
  iptables: {
    load: async () => {
      await must('iptables-restore', recorded('iptables.save'));
      await must('ip6tables-restore', recorded('ip6tables.save'));
    },
    chain: 'ip nat KUBE-NODEPORTS',
    listing: ['iptables', '-t', 'nat', '-S', 'KUBE-NODEPORTS'],
  },
  nftables: {
    load: () => must('nft', '-f', recorded('nftables.nft')),
    chain: 'ip kube-proxy external-5YJHU7J2-ns1/nodeport/tcp/p80',
    listing: ['nft', 'list', 'chain', 'ip', 'kube-proxy', 'external-5YJHU7J2-ns1/nodeport/tcp/p80'],
  },
} as const;

/** The LAN, and the pods behind the services. */
async function machines() {
  const outside = await Machine.outside({
    link: 'out0',
    hostAddress: '192.0.2.1',
    address: '192.0.2.9',
    six: { hostAddress: '2001:db8:2::1', address: '2001:db8:2::9' },
  });
  await must('ip', 'route', 'add', 'default', 'via', '192.0.2.9');
  await must('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8:2::9');
  const pods = await Machine.outside({
    link: 'out1',
    hostAddress: '10.244.0.1',
    address: '10.244.0.2',
    six: { hostAddress: 'fd44::1', address: 'fd44::2' },
  });
  for (const address of ['10.244.0.3/24', 'fd44::3/64']) {
    await pods.namespace.ip('addr', 'add', address, 'dev', 'out1p');
  }
  await pods.serve(8080, 'pod', '::');
  return { outside, pods };
}

const programs = ['ip', 'nft', 'iptables-restore', 'ip6tables-restore', 'nsenter', 'cat'];
inOwnNetns(import.meta.url, programs, () => {
  for (const [mode, { load, chain, listing }] of Object.entries(modes)) {
    test(`V-112: beside kube-proxy (${mode}) guests and services are reached, and a NodePort is not mapped`, async () => {
      await must('ip', 'link', 'set', 'lo', 'up');
      const { outside, pods } = await machines();
      await using _outside = outside;
      await using _pods = pods;
      await using host = await Host.open([network6]);
      const look = async (): Promise<readonly string[]> => {
        const before = host.events.length;
        await host.networks.init(waiting());
        return host.events.slice(before);
      };

      // A service that comes while a VM has its port.
      const early = await host.attach('early', { ports: [port(nodePort), port(8088)] });
      await using earlyGuest = await Machine.guest(early);
      assert.deepEqual(await look(), []);
      for (const round of ['first', 'second']) {
        await load();
        assert.deepEqual(await look(), [
          `early: Rules of another program lead published ports elsewhere: http on *:${nodePort} (chain ${chain}). ` +
            `Connections there reach one or the other: give that program, or the task, another port. To see the rules: ${listing.join(' ')}`,
        ]);
        assert.match(await must(listing[0], ...listing.slice(1)), /5YJHU7J2|HHSGZ7GN44DO37G5/);
        assert.deepEqual(await look(), []);
        if (round === 'second') break;
        for (const family of ['ip', 'ip6']) {
          await must('nft', `add table ${family} nat; delete table ${family} nat`);
          await must('nft', `add table ${family} kube-proxy; delete table ${family} kube-proxy`);
        }
        assert.deepEqual(await look(), []);
      }
      await earlyGuest.unplug();
      await host.detach('early');

      await assert.rejects(host.attach('web', { ports: [port(nodePort)] }), {
        code: 'host',
        message: `VM web: port http on *:${nodePort} can't be mapped: chain ${chain} of nftables leads it elsewhere`,
      });

      const web = await host.attach('web', { ports: [port(8080)] });
      assert.deepEqual(web.notes, []);
      await using guest = await Machine.guest(web);
      await guest.configure(web.address);
      await guest.serve(80, 'web', '::');
      await outside.serve(7000, 'outside', '::');
      const reached: readonly (readonly [Promise<string>, RegExp])[] = [
        [outside.ask('tcp', '192.0.2.1', 8080), /^web saw /],
        [outside.ask('tcp', '2001:db8:2::1', 8080), /^web saw /],
        [askFromHost('tcp', '127.0.0.1', 8080), /^web saw /],
        [guest.ask('tcp', '192.0.2.9', 7000), /^outside saw /],
        [outside.ask('tcp', '192.0.2.1', nodePort), /^pod saw /],
        [outside.ask('tcp', '2001:db8:2::1', nodePort), /^pod saw /],
        [guest.ask('tcp', '10.96.1.1', 80), /^pod saw /],
        [guest.ask('tcp', 'fd96::1:1', 80), /^pod saw /],
      ];
      for (const [answer, expected] of reached) assert.match(await answer, expected);
      assert.deepEqual(await look(), []);
      await guest.unplug();
      await host.detach('web');
      await must('nft', 'flush', 'ruleset');
      assert.deepEqual(await leftovers(), nothing);
    });
  }
});
