import type { SeedNic } from '#cloudinit';
import type { AttachedNic, Net } from '#net';
import { nic } from '#qemu';
import type { GuestSpec, NicSpec, Waiting } from '#spec';
import { withVmError } from '../error.ts';
import type { Prepared, Site } from './device.ts';

/** Connects the VM's NICs to their bridges, one after the other: two of them may compete for one address. */
export async function prepareNics(
  specs: readonly NicSpec[],
  { networks, guest }: { readonly networks: Net; readonly guest: GuestSpec },
  site: Site,
  waiting: Waiting,
): Promise<readonly Prepared[]> {
  const prepared: Prepared[] = [];
  for (const [index, { bridge, ports }] of specs.entries()) {
    const { hostname, dns } = guest;
    const request = { vm: site.vm, index, bridge, ports, hostname, dns };
    const attached = await withVmError(() =>
      networks.vmStartedBuild(
        request,
        { perform: (step, action) => site.undo.perform({ kind: 'net', step }, action) },
        waiting,
      ),
    );
    const { mac, mtu, backend, address, record, settled } = attached;
    site.files.add(`tap${index}`, backend.fd);
    const joined = address === undefined ? 'Joined bridge' : `Address ${address.ip} on`;
    site.emit(`${joined} ${bridge}`, { mac, tap: backend.name });
    prepared.push({
      part: nic({ index, mac, mtu }),
      record: { kind: 'nic', id: `net${index}`, ...record },
      guest: { nics: [seedNic(attached, dns)] },
      // The guest must not run before the rules that filter its traffic are in place.
      finish: async () => {
        for (const note of await withVmError(() => settled)) site.emit(note);
        return [];
      },
    });
  }
  return prepared;
}

/** On a bridge that isn't managed the driver knows no address: the guest requests one by DHCP. */
function seedNic({ mac, mtu, address }: AttachedNic, dns: GuestSpec['dns']): SeedNic {
  const { servers, searches } = dns ?? { servers: [], searches: [] };
  if (address === undefined) return { mac, nameservers: servers, searches };
  return {
    mac,
    mtu,
    address: address.ip,
    prefix: address.prefix,
    gateway: address.gateway,
    nameservers: servers.length > 0 ? servers : address.nameservers,
    searches,
  };
}
