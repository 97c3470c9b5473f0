import { test } from 'node:test';
import { inOwnNetns } from '../support/netns.ts';
import { networkComesUp } from '../support/network-ways.ts';

inOwnNetns(
  import.meta.url,
  ['ip', 'nft', 'dnsmasq'],
  () => {
    test('V-63 V-120 V-124 V-126: Debian 12 with NetworkManager has addresses, routes and name servers, and is reached', async (t) => {
      await networkComesUp(t, {
        guest: 'debian',
        renderer: 'network-manager',
        started: ['NetworkManager.service'],
        masked: ['systemd-networkd.service', 'systemd-networkd.socket'],
      });
    });
  },
  280_000,
);
