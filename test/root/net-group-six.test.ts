import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIpv6, linkLocalOf } from '#spec';
import {
  Allocation,
  containerGateway6,
  containerNetwork,
  GroupNics,
  guestOf,
  inside,
} from '../support/allocation.ts';
import { groupWays } from '../support/group-ways.ts';
import { askFromHost, Machine } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { waiting } from '../support/networks.ts';

const protocols = ['tcp', 'udp'] as const;
const address = '10.88.0.2';
const address6 = 'fd88::2';

inOwnNetns(
  import.meta.url,
  ['ip', 'nft', 'nsenter', 'cat', 'mount'],
  () => {
    test('V-125: in the network of a group with IPv6 too a guest is reached and reaches others like a container', async (t) => {
      await containerNetwork({ port: 18_080, to: `${address}:80`, six: `[${address6}]:80` });
      await using outside = await Machine.outside({
        link: 'out0',
        hostAddress: '192.0.2.1',
        address: '192.0.2.9',
        six: { hostAddress: '2001:db8::1', address: '2001:db8::9' },
      });
      await using allocation = await Allocation.open(address, address6);
      await using container = await Allocation.open('10.88.0.3', 'fd88::3');
      await using plugin = await GroupNics.open();
      const before = await inside(allocation.namespace);
      const web = await plugin.attach({
        vm: 'web',
        netns: allocation.path,
        ports: [80, { inGroup: 9180, guest: 81 }],
      });
      assert.equal(web.address, address);
      assert.ok(web.nic.six !== undefined);
      assert.equal(web.nic.six.ip, address6);
      const { guest: own, gateway } = web.nic.six;
      await using guest = await guestOf(web);
      await guest.serve(80, 'guest', '::');
      await guest.serve(81, 'guest', '::');
      await outside.serve(7000, 'outside', '::');
      await container.serve(7001, 'container', '::');
      await allocation.serve(9000, 'sibling', '::');

      const at = {
        host: '2001:db8::1',
        outside: '2001:db8::9',
        allocation: address6,
        container: 'fd88::3',
        containerGateway: containerGateway6,
        ...{ own, gateway },
      };
      for (const protocol of protocols) {
        const cases: ReturnType<typeof groupWays> = [
          ...groupWays(protocol, { outside, allocation, container, guest, at }),
          [
            'IPv4 beside it',
            () => askFromHost(protocol, '192.0.2.1', 18_080),
            'guest saw ::ffff:192.0.2.1',
          ],
        ];
        for (const [name, ask, expected] of cases) {
          await t.test(`${protocol}: ${name}`, async () => assert.equal(await ask(), expected));
        }
        await t.test(
          `${protocol}: what is not published is closed to other containers`,
          async () => {
            await container.askInVain(protocol, address6, 81);
            await container.namespace.ip('route', 'replace', `${own}/128`, 'via', address6);
            await container.askInVain(protocol, own, 80);
          },
        );
      }
      await guest.unplug();
      await plugin.detach('web');
      await plugin.detach('web');
      assert.equal(await inside(allocation.namespace), before);
    });

    test('two VMs of a group have IPv6 addresses of their own and reach each other at published ports', async () => {
      await using allocation = await Allocation.open(address, address6);
      await using plugin = await GroupNics.open();
      const netns = allocation.path;
      const [web, db] = await Promise.all([
        plugin.attach({ vm: 'web', netns, ports: [80] }),
        plugin.attach({ vm: 'db', netns, ports: [5432] }),
      ]);
      const [webSix, dbSix] = [web.nic.six, db.nic.six];
      assert.ok(webSix !== undefined && dbSix !== undefined);
      const guests = [webSix.guest, dbSix.guest].toSorted();
      assert.deepEqual(guests, ['fde5:4a95:8da2::2', 'fde5:4a95:8da2::6']);
      await using webGuest = await guestOf(web);
      await using dbGuest = await guestOf(db);
      await webGuest.serve(80, 'web', '::');
      await dbGuest.serve(5432, 'db', '::');
      await dbGuest.serve(5433, 'db', '::');
      assert.match(await webGuest.ask('tcp', webSix.gateway, 5432), /^db saw/);
      assert.match(await webGuest.ask('udp', address6, 5432), /^db saw/);
      assert.match(await dbGuest.ask('tcp', address6, 80), /^web saw/);
      await webGuest.askInVain('tcp', dbSix.guest, 5433);
      for (const guest of [webGuest, dbGuest]) await guest.unplug();
      for (const vm of ['web', 'db']) await plugin.detach(vm);
      assert.equal(await inside(allocation.namespace), 'lo eth0 |');
    });

    test('without IPv6 in the namespace of a group nothing of it passes, and the guest has none', async () => {
      await using allocation = await Allocation.open('10.88.0.4');
      await using plugin = await GroupNics.open();
      const web = await plugin.attach({ vm: 'web', netns: allocation.path, ports: [80] });
      assert.equal(web.nic.six, undefined);
      const { namespace } = allocation;
      assert.equal(await namespace.run('sysctl', '-n', 'net.ipv6.conf.all.forwarding'), '0\n');
      assert.equal(await namespace.ip('-6', 'addr', 'show', 'dev', web.nic.tap), '');
      await using guest = await guestOf(web);
      await allocation.serve(9000, 'sibling', '::');
      assert.match(await guest.ask('tcp', web.nic.gateway, 9000), /^sibling saw/);
      await guest.askInVain('tcp', `${formatIpv6(linkLocalOf(web.mac))}%eth0`, 9000);
      // An address that comes later is the guest's from the next start on.
      const late = 'fd88::4';
      await namespace.ip('addr', 'add', `${late}/64`, 'dev', 'eth0', 'nodad');
      await plugin.groups.restore(waiting());
      await guest.serve(80, 'guest', '::');
      await allocation.askInVain('tcp', late, 80);
      await guest.unplug();
      await plugin.detach('web');
      const next = await plugin.attach({ vm: 'web', netns: allocation.path, ports: [80] });
      assert.equal(next.nic.six?.ip, late);
      await using nextGuest = await guestOf(next);
      await nextGuest.serve(80, 'guest', '::');
      assert.match(await allocation.ask('tcp', late, 80), /^guest saw/);
      await nextGuest.unplug();
      await plugin.detach('web');
    });
  },
  300_000,
);
