import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closeFd } from '#host';
import { Machine } from '../support/guest.ts';
import { command, inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing } from '../support/networks.ts';

inOwnNetns(import.meta.url, ['ip', 'nft', 'nsenter', 'cat'], () => {
  test('V-110: the first VM makes the managed network, the last one leaves nothing', async () => {
    await using host = await Host.open();
    assert.deepEqual(await leftovers(), nothing);
    const nic = await host.attach('web-0a1b2c3d');
    assert.match(nic.tap, /^qmp[0-9a-f]{8}$/);
    assert.match(nic.mac, /^52:54:00(:[0-9a-f]{2}){3}$/);
    assert.equal(nic.address?.gateway, '192.168.122.1');
    assert.match(nic.address.ip, /^192\.168\.122\.\d+$/);
    const found = await leftovers();
    assert.deepEqual(found.links.toSorted(), [nic.tap, 'virbr0'].toSorted());
    assert.equal(found.tables.length, 1);
    assert.match((await command('ip', '-d', 'link', 'show', nic.tap)).output, /master virbr0/);
    const bridge = (await command('ip', '-d', 'link', 'show', 'virbr0')).output;
    assert.match(bridge, /alias nomad-driver-qmp/);
    assert.match(bridge, /forward_delay 0 .*stp_state 0/);
    closeFd(nic.tapFd);
    await host.detach('web-0a1b2c3d');
    assert.deepEqual(await leftovers(), nothing);
    await using guest = await Machine.guest(await host.attach('web-0a1b2c3d'));
    console.log(await guest.namespace.ip('addr'));
    await host.detach('web-0a1b2c3d');
    assert.deepEqual(await leftovers(), nothing);
  });
});
