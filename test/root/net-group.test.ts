import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nicFigures } from '../../src/vm/figures/links.ts';
import {
  Allocation,
  containerGateway,
  containerNetwork,
  GroupNics,
  guestOf,
  inside,
} from '../support/allocation.ts';
import { groupWays } from '../support/group-ways.ts';
import { askFromHost, Machine } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';

const protocols = ['tcp', 'udp'] as const;
const address = '10.88.0.2';

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat', 'mount'], () => {
  test('V-125: a guest in the network of its group is reached and reaches others like a container', async (t) => {
    await containerNetwork({ port: 18_080, to: `${address}:80` });
    await using outside = await Machine.outside({
      link: 'out0',
      hostAddress: '192.0.2.1',
      address: '192.0.2.9',
    });
    await outside.namespace.ip('route', 'add', 'default', 'via', '192.0.2.1');
    await using allocation = await Allocation.open(address);
    await using container = await Allocation.open('10.88.0.3');
    await using plugin = await GroupNics.open();
    const before = await inside(allocation.namespace);
    const web = await plugin.attach({
      vm: 'web',
      netns: allocation.path,
      ports: [80, { inGroup: 9180, guest: 81 }],
    });
    assert.equal(web.address, address);
    const { guest: own, gateway } = web.nic;
    await using guest = await guestOf(web);
    await guest.serve(80, 'guest');
    await guest.serve(81, 'guest');
    await outside.serve(7000, 'outside');
    await container.serve(7001, 'container');
    await allocation.serve(9000, 'sibling');
    await allocation.serve(9001, 'proxy', '127.0.0.1');

    const at = {
      host: '192.0.2.1',
      outside: '192.0.2.9',
      allocation: address,
      container: '10.88.0.3',
      ...{ containerGateway, own, gateway },
    };
    for (const protocol of protocols) {
      const cases: ReturnType<typeof groupWays> = [
        ...groupWays(protocol, { outside, allocation, container, guest, at }),
        [
          'from the host at 127.0.0.1',
          () => askFromHost(protocol, '127.0.0.1', 18_080),
          `guest saw ${containerGateway}`,
        ],
        [
          'a sibling at 127.0.0.1, as a proxy does',
          () => allocation.ask(protocol, '127.0.0.1', 80),
          `guest saw ${gateway}`,
        ],
        [
          'the guest to what a sibling listens at on 127.0.0.1 only',
          () => guest.ask(protocol, gateway, 9001),
          `proxy saw ${own}`,
        ],
      ];
      for (const [name, ask, expected] of cases) {
        await t.test(`${protocol}: ${name}`, async () => assert.equal(await ask(), expected));
      }
      await t.test(`${protocol}: what is not published is closed to other containers`, async () => {
        await container.askInVain(protocol, address, 81);
        await container.namespace.ip('route', 'replace', `${own}/32`, 'via', address);
        await container.askInVain(protocol, own, 80);
        await container.askInVain(protocol, address, 9001);
      });
    }

    const record = { kind: 'group-nic', id: 'net0', ...web.nic } as const;
    const [figures] = nicFigures([record]);
    assert.ok(figures && figures.sent.packets > 20 && figures.received.packets > 20);
    assert.deepEqual(nicFigures([{ ...record, netns: '/run/netns/none' }]), []);

    await guest.unplug();
    await plugin.detach('web');
    await plugin.detach('web');
    assert.equal(await inside(allocation.namespace), before);
  });
});
