import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { type CloudInit, cloudInits } from '../../scripts/guests/cloud-init.ts';
import { formatJsonYaml } from '../../src/cloudinit/json-yaml.ts';
import { networkConfig } from '../../src/cloudinit/network-config.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

// cloud-init's own renderers, of several Debian releases at once.

const run = promisify(execFile);
const program = join(import.meta.dirname, 'render-network.py');

const fixed = networkConfig([
  {
    mac: '52:54:00:AB:CD:EF',
    address: '192.168.122.5',
    prefix: 24,
    gateway: '192.168.122.1',
    nameservers: ['192.0.2.53'],
    searches: ['example.test'],
    mtu: 1400,
  },
  { mac: '52:54:00:ab:cd:f0', address: '10.9.8.7', prefix: 16, nameservers: [] },
  { mac: '52:54:00:ab:cd:f1', nameservers: [] },
  {
    mac: '52:54:00:ab:cd:f2',
    address: '2001:db8::5',
    prefix: 64,
    gateway: '2001:db8::1',
    nameservers: ['2001:db8::53'],
  },
]);

const requested = networkConfig([
  { mac: '52:54:00:ab:cd:f1', nameservers: ['192.0.2.53'], searches: ['example.test'] },
  { mac: '52:54:00:ab:cd:f2', nameservers: [] },
]);

interface Expected {
  readonly fixed: readonly RegExp[];
  readonly requested: readonly RegExp[];
}

const expectations: Readonly<Record<string, Expected>> = {
  eni: {
    fixed: [
      /iface eth0 inet static\n(?: {4}.*\n)*? {4}address 192\.168\.122\.5\/24\n/,
      /^ {4}gateway 192\.168\.122\.1$/m,
      /^ {4}dns-nameservers 192\.0\.2\.53$/m,
      /^ {4}mtu 1400$/m,
      /iface eth1 inet static\n {4}address 10\.9\.8\.7\/16\n/,
      /iface eth2 inet dhcp\n/,
      /iface eth3 inet6 static\n(?: {4}.*\n)*? {4}address 2001:db8::5\/64\n/,
      /^ {4}gateway 2001:db8::1$/m,
    ],
    requested: [/iface eth0 inet dhcp\n/, /iface eth1 inet dhcp\n/],
  },
  netplan: {
    fixed: [
      /eth0:\n\s+addresses:\n\s+- 192\.168\.122\.5\/24\n/,
      /gateway4: 192\.168\.122\.1\n|to: default\n\s+via: 192\.168\.122\.1\n/,
      /macaddress: 52:54:00:ab:cd:ef\n/,
      /- 192\.0\.2\.53\n\s+search:\n\s+- example\.test\n/,
      /eth2:\n\s+dhcp4: true\n/,
      /eth3:\n(?:\s+accept-ra: false\n)?\s+addresses:\n\s+- 2001:db8::5\/64\n/,
      /gateway6: 2001:db8::1\n|to: default\n\s+via: 2001:db8::1\n/,
    ],
    requested: [
      /eth0:\n\s+dhcp-identifier: mac\n\s+dhcp4: true\n/,
      /eth1:\n\s+dhcp-identifier: mac\n\s+dhcp4: true\n/,
      /- 192\.0\.2\.53\n\s+search:\n\s+- example\.test\n/,
    ],
  },
  networkd: {
    fixed: [
      /\[Address\]\nAddress=192\.168\.122\.5\/24\n/,
      /\[Route\]\nGateway=192\.168\.122\.1\n/,
      /MACAddress=52:54:00:ab:cd:ef\nName=eth0\n/,
      /DNS=192\.0\.2\.53\nDomains=example\.test\n/,
      /Name=eth2\n\n\[Network\]\nDHCP=ipv4\n/,
      /\[Address\]\nAddress=2001:db8::5\/64\n/,
      /\[Route\]\nGateway=2001:db8::1\n/,
    ],
    requested: [/DHCP=ipv4\nDNS=192\.0\.2\.53\nDomains=example\.test\n/, /Name=eth1\n/],
  },
  sysconfig: {
    fixed: [
      /DEVICE=eth0\nDNS1=192\.0\.2\.53\nDOMAIN=example\.test\nGATEWAY=192\.168\.122\.1\n/,
      /IPADDR=192\.168\.122\.5\nMTU=1400\n/,
      /BOOTPROTO=dhcp\nDEVICE=eth2\n/,
      /IPV6ADDR=2001:db8::5\/64\n/,
      /IPV6_DEFAULTGW=2001:db8::1\n/,
    ],
    requested: [/BOOTPROTO=dhcp\nDEVICE=eth0\n/, /BOOTPROTO=dhcp\nDEVICE=eth1\n/],
  },
  network_manager: {
    fixed: [
      /address1=192\.168\.122\.5\/24\ngateway=192\.168\.122\.1\ndns=192\.0\.2\.53;\n/,
      /mac-address=52:54:00:AB:CD:EF\n/,
      /address1=2001:db8::5\/64\ngateway=2001:db8::1\ndns=2001:db8::53;\n/,
    ],
    // The name servers are missing in 22.4.
    requested: [/method=auto\n/],
  },
};

test('V-63 V-126: the renderers of every cloud-init in use write address, route and name servers', async (t) => {
  const releases = await releasesOrSkip(t);
  await Promise.all(
    releases.map(async (release) => {
      for (const [kind, config] of [
        ['fixed', fixed],
        ['requested', requested],
      ] as const) {
        const texts = await render(t, release, formatJsonYaml(config));
        for (const [name, text] of Object.entries(texts)) {
          const what = `${name} of ${release.version}`;
          for (const pattern of expectations[name]?.[kind] ?? []) assert.match(text, pattern, what);
          // A guest with ifupdown and without net-tools has no `route` command.
          assert.doesNotMatch(text, /route add/, what);
        }
      }
    }),
  );
  if (releases.length === 0) return;
  const years = releases.map(({ version }) => Number.parseInt(version, 10));
  assert.ok(Math.min(...years) <= 22 && Math.max(...years) >= 25, years.join(', '));
  t.diagnostic(releases.map(({ version }) => version).join(', '));
});

test('V-63: addresses are in version 1, and guests with none of ours are identified by MAC address', () => {
  const found = [fixed, requested].map((config) => JSON.stringify(config));
  assert.match(found[0] ?? '', /"version":1,.*"mac_address":"52:54:00:ab:cd:ef"/);
  assert.equal((found[1] ?? '').split('"dhcp-identifier":"mac"').length, 3);
});

async function releasesOrSkip(t: TestContext): Promise<readonly CloudInit[]> {
  try {
    return await cloudInits();
  } catch (error) {
    requireOrSkip(t, false, String(error));
    return [];
  }
}

async function render(
  t: TestContext,
  { pythonPath }: CloudInit,
  config: string,
): Promise<Record<string, string>> {
  const file = join(tmpDir(t), 'network-config');
  writeFileSync(file, config);
  const { stdout } = await run('/usr/bin/python3', ['-W', 'ignore', program, file], {
    env: { ...process.env, PYTHONPATH: pythonPath },
    encoding: 'utf8',
  });
  return JSON.parse(stdout);
}
