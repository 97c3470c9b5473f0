import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closeFd } from '#host';
import { DhcpServer } from '../../src/net/dhcp/server.ts';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { built, Host, leftovers, nothing, tapOf, virbr0, waiting } from '../support/networks.ts';

const request = {
  kind: 'bridge',
  vm: 'web',
  index: 0,
  bridge: 'virbr0',
  ports: [],
  hostname: 'web',
} as const;

inOwnNetns(import.meta.url, ['ip', 'nft', 'mount', 'umount'], () => {
  test('an nft that can not be started is named with the reason', async () => {
    await using host = await Host.open([virbr0], { nft: '/nowhere/nft' });
    await assert.rejects(host.attach('web'), {
      code: 'host',
      message: 'running /nowhere/nft -f - failed: starting /nowhere/nft: ENOENT',
    });
    await using working = host.again();
    await working.detach('web');
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a setting of the kernel that can not be changed is named with the reason', async () => {
    await using host = await Host.open();
    await must('mount', '--bind', '/proc/sys/net', '/proc/sys/net');
    await must('mount', '-o', 'remount,bind,ro', '/proc/sys/net');
    try {
      await assert.rejects(host.attach('web'), {
        code: 'host',
        message: /^setting \/proc\/sys\/net\/\S+ to \d failed: EROFS: read-only file system/,
      });
    } finally {
      await must('umount', '/proc/sys/net');
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a tap that can not be opened is named with the reason', async () => {
    await using host = await Host.open();
    await must('mount', '--bind', '/dev/null', '/dev/net/tun');
    try {
      await assert.rejects(host.attach('web'), {
        code: 'host',
        message: /^VM web: opening tap qmp\w+ failed: .*ENOTTY/,
      });
    } finally {
      await must('umount', '/dev/net/tun');
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a tap that can not be plugged is named with the reason', async () => {
    await using host = await Host.open();
    {
      await using undo = await host.undoLog('web');
      const nic = await built(host.networks, request, undo);
      await must('ip', 'link', 'del', tapOf(nic).name);
      await assert.rejects(nic.settle(waiting()), {
        code: 'host',
        message:
          /^VM web: plugging tap qmp\w+ into bridge virbr0 failed: change link qmp\w+ \(master\): E/,
      });
      closeFd(tapOf(nic).fd);
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test('a DHCP port that can not be opened is named with the reason', async () => {
    const log = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };
    const network = { address: '10.0.0.1', prefix: 24, nameservers: [], searches: [], mtu: 1500 };
    const guests = { get: async () => new Map(), forget() {} };
    await assert.rejects(DhcpServer.open({ bridge: 'nowhere', network, guests, log }), {
      code: 'host',
      message: /^opening the DHCP port on bridge nowhere failed: .*ENODEV/,
    });
  });
});
