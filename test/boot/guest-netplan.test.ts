import { testNetworkWays } from '../support/network-ways.ts';

// systemd-networkd without netplan is in debian-task.test.ts.

testNetworkWays(import.meta.url, {
  'Debian 12 with netplan': { guest: 'debian', renderer: 'netplan' },
});
