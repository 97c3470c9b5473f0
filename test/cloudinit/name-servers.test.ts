import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { nameServerCommand } from '../../src/cloudinit/network-commands.ts';
import { tmpDir } from '../support/tmp.ts';

// The command is run by a shell on a copy of the files that it looks at.

const first = {
  mac: '52:54:00:00:00:01',
  address: '10.0.0.5',
  prefix: 24,
  nameservers: ['10.0.0.1', '192.0.2.53'],
  searches: ['example.test', 'lan.test'],
};
const second = {
  mac: '52:54:00:00:00:02',
  address: '10.1.0.5',
  prefix: 24,
  nameservers: ['10.0.0.1'],
};
/** Its name servers are in the guest's file for ifupdown as well. */
const asks = { mac: '52:54:00:00:00:03', nameservers: ['10.0.0.1'], searches: ['lan.test'] };
const interfaces = {
  'etc/network/interfaces.d/50-cloud-init':
    'iface eth0 inet static\n    dns-nameservers 10.0.0.1\n',
};
const servers = 'nameserver 10.0.0.1\nnameserver 192.0.2.53\nsearch example.test lan.test\n';

/** A guest's files, in which the command has run. */
function guestAfter(t: TestContext, files: Readonly<Record<string, string>>, link?: string) {
  const root = tmpDir(t);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  if (link !== undefined) symlinkSync(link, join(root, 'etc/resolv.conf'));
  const command = nameServerCommand([first, second, asks]) ?? assert.fail('there is no command');
  const here = command.replaceAll(/(?<![\w.*])\/(etc|run|sys)\//g, `${root}/$1/`);
  const script = `systemctl() { printf '%s ' "$@" >>${root}/called; }; ${here}; echo "ended $?"`;
  const { stdout, stderr } = spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8' });
  assert.deepEqual([stdout.trim(), stderr], ['ended 0', '']);
  return (name: string): string | undefined =>
    existsSync(join(root, name)) ? readFileSync(join(root, name), 'utf8') : undefined;
}

test('V-63: a guest with ifupdown and no more has the name servers in resolv.conf', (t) => {
  const stale = { 'etc/resolv.conf': 'nameserver 198.51.100.1\n' };
  assert.equal(guestAfter(t, { ...interfaces, ...stale })('etc/resolv.conf'), servers);
  assert.equal(guestAfter(t, interfaces)('etc/resolv.conf'), servers);
});

test('V-63: one with ifupdown and systemd-resolved has them there, and not what its hook made of them', (t) => {
  const file = guestAfter(
    t,
    {
      ...interfaces,
      'run/systemd/resolve/stub-resolv.conf': 'nameserver 127.0.0.53\n',
      'run/systemd/resolve/netif/2': 'SERVERS=DNS\nDOMAINS=DOMAINS\n',
      'sys/class/net/eth0/ifindex': '2\n',
      'sys/class/net/eth1/ifindex': '3\n',
      'run/systemd/resolve/netif/4': 'SERVERS=DNS\nDOMAINS=DOMAINS\n',
      'sys/class/net/eth2/ifindex': '4\n',
    },
    '../run/systemd/resolve/stub-resolv.conf',
  );
  assert.equal(
    file('run/systemd/resolved.conf.d/nomad.conf'),
    '[Resolve]\nDNS=10.0.0.1 192.0.2.53\nDomains=example.test lan.test\n',
  );
  for (const name of [2, 4]) assert.equal(file(`run/systemd/resolve/netif/${name}`), undefined);
  assert.equal(file('etc/resolv.conf'), 'nameserver 127.0.0.53\n');
  assert.equal(file('called'), '--no-block try-restart systemd-resolved.service ');
});

test('V-63: another program’s resolv.conf, and guests without ifupdown, are left alone', (t) => {
  const generated = { 'run/resolvconf/resolv.conf': 'nameserver 127.0.0.1\n' };
  const linked = guestAfter(t, { ...interfaces, ...generated }, '../run/resolvconf/resolv.conf');
  assert.equal(linked('etc/resolv.conf'), 'nameserver 127.0.0.1\n');
  const other = guestAfter(t, {
    'etc/resolv.conf': 'nameserver 198.51.100.1\n',
    'etc/network/interfaces': 'auto lo\n',
    'run/systemd/resolve/resolv.conf': '',
  });
  assert.equal(other('etc/resolv.conf'), 'nameserver 198.51.100.1\n');
  assert.equal(other('run/systemd/resolved.conf.d/nomad.conf'), undefined);
});

test('V-63: no command for guests that have their name servers by DHCP, or none', () => {
  const { mac, nameservers } = first;
  assert.equal(nameServerCommand([{ mac, nameservers }]), undefined);
  assert.equal(nameServerCommand([{ ...first, nameservers: [] }]), undefined);
  assert.equal(nameServerCommand([]), undefined);
});
