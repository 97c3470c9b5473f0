import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { argsReferencePath, renderArgsReference } from '../../scripts/args-reference.ts';
import { referencePath, renderReference } from '../../scripts/config-reference.ts';

test('P-15 V-133: docs/configuration.md is what the schemas give; npm run docs writes it', () => {
  assert.equal(readFileSync(referencePath, 'utf8'), renderReference());
});

test('V-134: the guide has every option of args, as the code reads it', () => {
  const guide = readFileSync(argsReferencePath, 'utf8');
  assert.equal(guide, renderArgsReference(guide), 'run npm run docs');
  assert.match(guide, /`-netdev user,id=net0/);
});

/** Keys of the drivers that the guide is for, by the heading of their part. A dot leads into a block. */
const keysOfOthers: Readonly<Record<string, string>> = {
  'From nomad-driver-virt, first releases':
    'data_dir image_paths emulator.uri emulator.user emulator.password image primary_disk_size use_thin_copy hostname user_data default_user_authorized_ssh_key default_user_password cmds timezone os.arch os.machine network_interface.bridge.name network_interface.bridge.ports',
  'From nomad-driver-virt, later releases':
    'provider.libvirt.uri provider.libvirt.user provider.libvirt.password provider.libvirt.allow_insecure_readonly_mounts storage_pools.default storage_pools.directory.path storage_pools.ceph.pool storage_pools.ceph.hosts storage_pools.ceph.authentication.username storage_pools.ceph.authentication.secret disk pool volume devname driver kind bus_type format primary size chained read_only sparse source.image source.format source.volume network_interface.macvtap.device network_interface.macvtap.mode',
  "From Nomad's builtin qemu driver":
    'image_path drive_interface accelerator graceful_shutdown guest_agent port_map emulator machine_type args image_paths args_allowlist emulators_allowlist',
};

for (const [heading, keys] of Object.entries(keysOfOthers)) {
  test(`V-134: the guide has a row for every key: ${heading}`, () => {
    const [, part = ''] = readFileSync(argsReferencePath, 'utf8').split(`\n## ${heading}\n`);
    const [own = ''] = part.split('\n## ');
    const rows = own.matchAll(/^\| (.+?) \|/gm);
    const named = [...rows].flatMap(([, cell = '']) =>
      [...cell.matchAll(/`([^`]+)`/g)].map(([, key]) => key),
    );
    assert.deepEqual(
      keys.split(' ').filter((key) => !named.includes(key)),
      [],
    );
  });
}
