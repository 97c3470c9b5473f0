import { test } from 'node:test';
import { inOwnNetns } from '../support/netns.ts';
import { networkComesUp } from '../support/network-ways.ts';

// With Debian's hook between the two.

inOwnNetns(
  import.meta.url,
  ['ip', 'nft', 'dnsmasq'],
  () => {
    test('V-63 V-120 V-124 V-126: Debian 12 with ifupdown and systemd-resolved has addresses, routes and name servers, and is reached', async (t) => {
      await networkComesUp(t, {
        guest: 'debian',
        renderer: 'eni',
        started: ['networking.service'],
        masked: ['systemd-networkd.service'],
      });
    });
  },
  280_000,
);
