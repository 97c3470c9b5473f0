import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { type DiskSpec, primaryDisk } from '#spec';
import { askVm } from '#vm';
import { ForeignNetwork } from '../support/foreign-network.ts';
import { must } from '../support/guest.ts';
import { guestOrSkip, guestSpec, network, powerOff, told } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import { patient } from '../support/patience.ts';
import { findVirtiofsd } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { eventually, soon, VmGround } from '../support/vm.ts';

// A whole Debian with systemd and cloud-init, booted once: what the seed says must come out as it was meant there, not
// only read back from its bytes.

const key =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0bm5vdGFyZWFsa2V5bm90YXJlYWxrZXlub3RhcmVh me@example';
const password = 'it\'s: #1 "secret" $HOME';
const tricky = 'a "quoted" $HOME `id` \\ back\nsecond line';

/** Each fact is a name and its value in base64, for values of several lines and terminals that change them. */
const facts = `#!/bin/bash
say() { echo "FACT $1 $(base64 -w0)"; }
hostname | say hostname
readlink /etc/localtime | say timezone
cat /var/lib/cloud/data/instance-id | say instance
cloud-id | say datasource
python3 -W ignore -c 'import crypt, spwd, sys
hash = spwd.getspnam("debian").sp_pwdp
print(crypt.crypt(sys.argv[1], hash) == hash)' "$(cat /root/password)" | say password
chage -l debian | head -n 1 | say expiry
cat ~debian/.ssh/authorized_keys | say keys
stat -c '%a %U' /etc/nomad/env | say envfile
su - root -c 'printf %s "$TRICKY"' | say roots
runuser -l debian -c 'printf %s "\${TRICKY-nothing}"' | say others
cat /run/cmds-ran | say cmds
ip -4 -o address show | say addresses
ip route | say routes
ip -6 -o address show scope global | say addresses6
ip -6 route show default | say routes6
cat /run/systemd/resolve/resolv.conf | say resolver
cat /local/page | say local
(echo x > /alloc/new) 2>&1 | say write
grep -c virtiofs /etc/fstab | say fstab
grep virtiofs /proc/mounts | say mounts
mkdir /run/files && mount -t vfat -o ro LABEL=FILES /run/files 2>&1
(cd /run/files && find . -type f -print0 | sort -z | xargs -0 sha256sum) | say files
echo FACTS-END
`;

const userData = `#cloud-config
write_files:
  - path: /usr/local/sbin/facts
    permissions: "0755"
    encoding: b64
    content: ${Buffer.from(facts).toString('base64')}
  - path: /root/password
    permissions: "0600"
    encoding: b64
    content: ${Buffer.from(password).toString('base64')}
chpasswd:
  expire: true
runcmd:
  - echo "the user's own" >> /run/cmds-ran
  - [sh, -c, "/usr/local/sbin/facts > /dev/ttyS0 2>&1"]
`;

/** Files with names and sizes of several kinds, and the line that sha256sum has for each. */
function filesIn(directory: string): string {
  const contents = {
    './EFI/BOOT/BOOTX64.EFI': Buffer.alloc(70_000, 'boot'),
    './meta-data': Buffer.from('instance-id: one\n'),
    './zwölf Namen.conf': Buffer.from('x'),
  };
  return Object.entries(contents)
    .map(([name, content]) => {
      const path = join(directory, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
      return `${createHash('sha256').update(content).digest('hex')}  ${name}`;
    })
    .join('\n');
}

function directoryDisk(directory: string): DiskSpec {
  return {
    ...primaryDisk({ image: '', thin: false }),
    name: 'vdb',
    source: { kind: 'directory', directory, label: 'FILES' },
    readOnly: true,
    primary: false,
  };
}

inOwnNetns(
  import.meta.url,
  ['ip', 'nft', 'dnsmasq'],
  () => {
    test('a task on Debian with cloud-init', async (t) => {
      const guest = await guestOrSkip(t, 'debian');
      if (guest === undefined) return;
      await must('ip', 'link', 'set', 'lo', 'up');
      await using ground = VmGround.open({
        managedNetworks: [network],
        bridges: ['lan0'],
        imagePaths: [dirname(guest.path)],
      });
      const foreign = await ForeignNetwork.open(ground);
      const dirs = ['alloc/alloc', 'alloc/task/local', 'alloc/task/secrets'].map((it) =>
        join(ground.root, it),
      );
      for (const dir of dirs) mkdirSync(dir, { recursive: true });
      const [allocDir = '', localDir = '', secretsDir = ''] = dirs;
      writeFileSync(join(localDir, 'page'), 'from a template\n');
      const pipes = ground.pipes();
      const log = ground.read(pipes.stdoutPath);
      const virtualizer = ground.virtualizer();
      const files = filesIn(join(localDir, 'files'));
      const system = guestSpec(ground, guest, {
        ...pipes,
        vcpus: 1,
        memoryMiB: 768,
        nics: ['virbr0', foreign.bridge].map((bridge) => ({ kind: 'bridge', bridge, ports: [] })),
        shares: [
          { tag: 'allocDir', source: allocDir, target: '/alloc', readOnly: true },
          { tag: 'localDir', source: localDir, target: '/local', readOnly: true },
          { tag: 'secretsDir', source: secretsDir, target: '/secrets', readOnly: true },
        ],
        guest: {
          hostname: 'shop-7',
          userData: { kind: 'inline', text: userData },
          password,
          authorizedKey: key,
          commands: [
            'echo "cmds: $TRICKY" > /run/cmds-ran',
            `echo 'it'\\''s: "a" #test' >> /run/cmds-ran`,
          ],
          timezone: 'Europe/Berlin',
          dns: { servers: ['192.0.2.53'], searches: ['example.test'] },
          env: { TRICKY: tricky, NOMAD_TASK_NAME: 'task' },
        },
      });
      const spec = { ...system, disks: [...system.disks, directoryDisk('local/files')] };
      const domain = await virtualizer.createDomain(spec, soon(60_000));
      const text = await told(log, /FACTS-END/, 240_000);
      const found = new Map(
        [...text.matchAll(/FACT (\w+) (\S*)/g)].map(([, name = '', value = '']) => [
          name,
          Buffer.from(value, 'base64').toString().trimEnd(),
        ]),
      );
      const is = (name: string, expected: string): void =>
        assert.equal(found.get(name), expected, name);

      await t.test('V-56 V-57 D39: the seed is found, the instance is the VM', () => {
        is('datasource', 'nocloud');
        is('instance', spec.name);
        is('hostname', 'shop-7');
      });
      await t.test('V-107: systemd has started a login at the interactive console', async () => {
        await eventually(
          () => /shop-7 login: $/.test(readFileSync(ground.paths().hvcLog, 'latin1')),
          'a login at hvc0',
          60_000,
        );
      });
      await t.test('V-25 D10: the time zone is set', () => {
        assert.match(found.get('timezone') ?? '', /\/Europe\/Berlin$/);
      });
      await t.test('V-58 V-61: password and key of the default user are what was asked for', () => {
        is('password', 'True');
        is('keys', key);
      });
      await t.test("V-58: where both set a key, the user's data wins; lists have both", () => {
        assert.match(found.get('expiry') ?? '', /password must be changed/);
        is('cmds', `cmds: ${tricky}\nit's: "a" #test\nthe user's own`);
      });
      await t.test(
        'V-62 D8: the environment reaches root and no other user, whatever is in it',
        () => {
          is('envfile', '600 root');
          is('roots', tricky);
          is('others', 'nothing');
        },
      );
      await t.test(
        'V-63 V-120 V-126: address, route and name servers are those of the seed',
        () => {
          assert.match(found.get('addresses') ?? '', new RegExp(`inet ${domain.network?.ip}/24 `));
          assert.match(found.get('routes') ?? '', /^default via 192\.168\.122\.1 /m);
          const place = Number(domain.network?.ip.split('.')[3]).toString(16);
          const six = new RegExp(`inet6 fd12:3456:789a::${place}/64 `);
          assert.match(found.get('addresses6') ?? '', six);
          // cloud-init before 23 has no way to have networkd refuse advertisements: the same router by its other address.
          const hops = found.get('routes6')?.matchAll(/via (\S+)/g) ?? [];
          const routers = [...hops].map(([, hop = '']) => hop.replace(/^fe80::5054:ff:.*/, 'same'));
          assert.deepEqual(
            routers.filter((router) => router !== 'same'),
            ['fd12:3456:789a::1'],
          );
          assert.equal(found.get('addresses6')?.match(/inet6 fd12:/g)?.length, 1);
          assert.match(found.get('resolver') ?? '', /^nameserver 192\.0\.2\.53$/m);
          assert.match(found.get('resolver') ?? '', /^search example\.test$/m);
        },
      );
      await t.test('V-63: on a bridge of others it has asked with its MAC address', async () => {
        await eventually(() => foreign.leasesByMac().length > 0, 'a lease');
        const own = found.get('addresses')?.matchAll(/eth1 +inet ([^/]+)/g) ?? [];
        assert.deepEqual(
          [...own].map(([, ip]) => ip),
          foreign.leasesByMac(),
        );
      });
      await t.test('V-67 V-68 D9: directories are mounted read-only, past fstab', (t) => {
        if (!requireOrSkip(t, findVirtiofsd() !== undefined, 'needs virtiofsd')) return;
        is('local', 'from a template');
        assert.match(found.get('write') ?? '', /Read-only file system/);
        is('fstab', '0');
        assert.equal((found.get('mounts') ?? '').split('\n').length, 3);
      });
      await t.test('V-136: the disk of a directory has its files, as Linux reads FAT', () => {
        is('files', files);
      });
      await t.test('V-55: its disk is backed up while its file systems are frozen', async (t) => {
        await eventually(
          () => ground.told().includes('Guest agent is connected'),
          'the guest agent',
          60_000,
        );
        const path = join(tmpDir(t), 'vda.qcow2');
        const request = { command: 'backup', disk: 'vda', path } as const;
        const task = { alloc: spec.identity.allocId, task: 'task' };
        const { dataDir } = ground.options;
        const asked = { dataDir, task, request, onProgress: () => {} };
        const answer = await askVm(asked, soon(120_000));
        assert.match(answer, /, consistent: [1-9]\d* file systems? (was|were) frozen$/);
        const check = await must('qemu-img', 'check', path);
        assert.match(check, /No errors were found/);
      });
      await t.test(
        'V-87 V-84: its agent is asked to shut down, and it does so in order',
        async () => {
          // The agent is started late in the boot; until then it is the button.
          const begun = performance.now();
          const exit = await powerOff(virtualizer, domain);
          assert.equal(exit?.reason, 'guest-shutdown');
          assert.ok(performance.now() - begun < patient(25_000));
        },
      );
    });
  },
  280_000,
);
