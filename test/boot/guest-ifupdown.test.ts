import { testNetworkWays } from '../support/network-ways.ts';

// By cloud-init 20.4 and 22.4. The second guest has Debian's hook between ifupdown and systemd-resolved.

testNetworkWays(import.meta.url, {
  'Debian 11 with ifupdown': { guest: 'debian-11', renderer: 'eni' },
  'Debian 12 with ifupdown and systemd-resolved': {
    guest: 'debian',
    renderer: 'eni',
    started: ['networking.service'],
    masked: ['systemd-networkd.service'],
  },
});
