import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { clientIdCommand } from '../../src/cloudinit/network-commands.ts';
import { tmpDir } from '../support/tmp.ts';

// The command is run by a shell on a copy of the files that it looks at.

const fixed = { mac: '52:54:00:00:00:01', address: '10.0.0.5', prefix: 24, nameservers: [] };
const asks = { mac: '52:54:00:00:00:02', nameservers: [], sharesDhcp: true };
const asksAlone = { mac: '52:54:00:00:00:03', nameservers: [], sharesDhcp: false };

const networkd = '/etc/systemd/network/10-cloud-init-eth1.network';
const netplan = '/run/systemd/network/10-netplan-eth1.network';
const byMac = '[DHCPv4]\nClientIdentifier=mac\n[DHCPv6]\nDUIDType=link-layer\n';

/** Runs the command in a guest with these files, as often as it boots: what it called, and its files then. */
function guestAfter(t: TestContext, files: Readonly<Record<string, string>>, boots = 1) {
  const root = tmpDir(t);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const command = clientIdCommand([fixed, asks, asksAlone]) ?? assert.fail('there is no command');
  const here = command.replaceAll(/(?<![\w.*])\/(etc|run|lib)\//g, `${root}/$1/`);
  const script = `systemctl() { echo "$@"; }; ${here}`;
  const called = Array.from({ length: boots }, () => {
    const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return stdout.trim();
  });
  const file = (name: string): string | undefined =>
    existsSync(join(root, name)) ? readFileSync(join(root, name), 'utf8') : undefined;
  return { called, file };
}

const again = 'try-restart systemd-networkd.service';

test('V-63: networkd asks with the MAC address from the first boot on', (t) => {
  const { called, file } = guestAfter(t, { [networkd]: '[Network]\nDHCP=ipv4\n' }, 2);
  assert.deepEqual(called, [again, '']);
  assert.equal(file(`${networkd}.d/nomad.conf`), byMac);
});

test('V-63: the same with netplan, whose file lies elsewhere, where it does not have it yet', (t) => {
  const mixed = guestAfter(t, { [netplan]: '[Network]\nDHCP=ipv4\n' });
  assert.deepEqual(mixed.called, [again]);
  assert.equal(mixed.file('/etc/systemd/network/10-netplan-eth1.network.d/nomad.conf'), byMac);
  const all = guestAfter(t, { [netplan]: '[DHCP]\nClientIdentifier=mac\n' });
  assert.deepEqual(all.called, ['']);
});

test('V-63: guests without networkd, and interfaces that ask nobody else’s server, are left alone', (t) => {
  const others = {
    '/etc/network/interfaces': 'iface eth1 inet dhcp\n',
    '/etc/systemd/network/10-cloud-init-eth2.network': '[Network]\nDHCP=ipv4\n',
  };
  const { called, file } = guestAfter(t, others);
  assert.deepEqual(called, ['']);
  assert.equal(file('/etc/systemd/network/10-cloud-init-eth2.network.d/nomad.conf'), undefined);
  assert.equal(clientIdCommand([fixed, asksAlone]), undefined);
});
