import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { askFromHost, Machine, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing } from '../support/networks.ts';
import { requireOrSkip } from '../support/require.ts';

const port = (hostIp: string, hostPort: number, guestPort = 80) => ({
  label: `p${hostPort}`,
  hostIp,
  hostPort,
  guestPort,
});

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat'], () => {
  // Where br_netfilter is loaded, frames between two ports of a bridge pass the rules as well, and take other turns.
  for (const bridged of ['0', '1']) {
    test(`V-110 V-112 V-113 V-114 V-115 D19 D42: ports are reached from everywhere (br_netfilter ${bridged})`, async (t) => {
      const setting = '/proc/sys/net/bridge/bridge-nf-call-iptables';
      if (existsSync(setting)) writeFileSync(setting, bridged);
      else if (!requireOrSkip(t, bridged === '0', 'needs br_netfilter')) return;
      await must('ip', 'link', 'set', 'lo', 'up');
      await using outside = await Machine.outside({
        link: 'out0',
        hostAddress: '192.0.2.1',
        address: '192.0.2.9',
      });
      await outside.serve(7000, 'outside');
      await using host = await Host.open();
      const web = await host.attach('web', {
        ports: [port('192.0.2.1', 8080), port('127.0.0.1', 8081), port('', 8082)],
      });
      const other = await host.attach('other', { ports: [port('192.0.2.1', 9090)] });
      await using webGuest = await Machine.guest(web);
      await using otherGuest = await Machine.guest(other);
      await webGuest.configure(web.address);
      await otherGuest.configure(other.address);
      await webGuest.serve(80, 'web');
      await otherGuest.serve(80, 'other');
      const webIp = web.address?.ip ?? '';
      const otherIp = other.address?.ip ?? '';

      for (const protocol of ['tcp', 'udp'] as const) {
        const cases: readonly (readonly [string, () => Promise<string>, string])[] = [
          [
            'V-112: from outside at the host address',
            () => outside.ask(protocol, '192.0.2.1', 8080),
            'web saw 192.0.2.9',
          ],
          [
            'from outside at a port on every address',
            () => outside.ask(protocol, '192.0.2.1', 8082),
            'web saw 192.0.2.9',
          ],
          [
            'V-114 D42: from the host itself at its address',
            () => askFromHost(protocol, '192.0.2.1', 8080),
            'web saw 192.0.2.1',
          ],
          [
            'V-113: from the host itself at a loopback port',
            () => askFromHost(protocol, '127.0.0.1', 8081),
            'web saw 192.168.122.1',
          ],
          [
            'from the host itself at 127.0.0.1, port on every address',
            () => askFromHost(protocol, '127.0.0.1', 8082),
            'web saw 192.168.122.1',
          ],
          [
            'V-114: hairpin, from another VM at the host address',
            () => otherGuest.ask(protocol, '192.0.2.1', 8080),
            'web saw 192.168.122.1',
          ],
          [
            'V-114: hairpin, a VM at its own published port',
            () => webGuest.ask(protocol, '192.0.2.1', 8080),
            'web saw 192.168.122.1',
          ],
          [
            'hairpin at the gateway address, port on every address',
            () => otherGuest.ask(protocol, '192.168.122.1', 8082),
            'web saw 192.168.122.1',
          ],
          [
            'from the host at the guest',
            () => askFromHost(protocol, webIp, 80),
            'web saw 192.168.122.1',
          ],
          ['VM to VM', () => otherGuest.ask(protocol, webIp, 80), `web saw ${otherIp}`],
          [
            'masquerade: a VM to outside is seen as the host',
            () => webGuest.ask(protocol, '192.0.2.9', 7000),
            'outside saw 192.0.2.1',
          ],
          [
            'two VMs have their own ports',
            () => outside.ask(protocol, '192.0.2.1', 9090),
            'other saw 192.0.2.9',
          ],
        ];
        for (const [name, ask, expected] of cases) {
          await t.test(`${protocol}: ${name}`, async () => assert.equal(await ask(), expected));
        }
        await t.test(`${protocol}: a loopback port is closed to outside`, async () => {
          await outside.askInVain(protocol, '192.0.2.1', 8081);
        });
        await t.test(`${protocol}: what isn't mapped is closed to outside`, async () => {
          await outside.namespace.ip('route', 'replace', '192.168.122.0/24', 'via', '192.0.2.1');
          await outside.askInVain(protocol, webIp, 80);
        });
      }

      await host.detach('web');
      await t.test('V-118: after one VM went, the other still has its ports', async () => {
        assert.equal(await outside.ask('tcp', '192.0.2.1', 9090), 'other saw 192.0.2.9');
        await outside.askInVain('tcp', '192.0.2.1', 8080);
      });
      await otherGuest.unplug();
      await host.detach('other');
      assert.deepEqual(await leftovers(), nothing);
    });
  }
});
