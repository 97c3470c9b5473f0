import type { SeedNic } from '#cloudinit';
import type { AttachedNic, Net } from '#net';
import { nic } from '#qemu';
import type { GuestSpec, NicSpec, Waiting } from '#spec';
import { withVmError } from '../error.ts';
import type { Prepared, Site } from './device.ts';

/** Connects the VM's NICs, one after the other: two of them may compete for one address. */
export async function prepareNics(
  specs: readonly NicSpec[],
  { networks, guest }: { readonly networks: Net; readonly guest: GuestSpec },
  site: Site,
  waiting: Waiting,
): Promise<readonly Prepared[]> {
  const prepared: Prepared[] = [];
  const { hostname, dns } = guest;
  const route = Math.max(
    0,
    specs.findIndex(({ defaultRoute }) => defaultRoute === true),
  );
  for (const [index, spec] of specs.entries()) {
    const isDefaultRoute = index === route;
    const request = { ...spec, vm: site.vm, index, hostname, dns, isDefaultRoute };
    const attached = await withVmError(() =>
      networks.vmStartedBuild(
        request,
        { perform: (step, action) => site.undo.perform({ kind: 'net', step }, action) },
        waiting,
      ),
    );
    const { mac, mtu, backend, record, settled } = attached;
    if (backend.kind === 'tap') site.files.add(`tap${index}`, backend.fd);
    site.emit(...attachedEvent(spec, attached));
    prepared.push({
      part: nic({ index, mac, mtu, backend, ...modelOf(spec) }),
      record: { id: `net${index}`, ...record },
      guest: { nics: [{ ...seedNic(attached, dns), isDefaultRoute }] },
      // The guest must not run before the rules that filter its traffic are in place.
      finish: async () => {
        for (const note of await withVmError(() => settled)) site.emit(note);
        return [];
      },
    });
  }
  return prepared;
}

function modelOf({ model }: NicSpec): Pick<NicSpec, 'model'> {
  return model === undefined ? {} : { model };
}

function attachedEvent(
  spec: NicSpec,
  { mac, backend, address }: AttachedNic,
): readonly [string, Readonly<Record<string, string>>] {
  const tap = backend.kind === 'tap' ? { tap: backend.name } : {};
  const facts = { mac, ...tap };
  switch (spec.kind) {
    case 'bridge': {
      const joined = address === undefined ? 'Joined bridge' : `Address ${address.ip} on`;
      return [`${joined} ${spec.bridge}`, facts];
    }
    case 'user':
      return ['Joined a user-mode network: only its ports are open, in both directions', facts];
    default:
      return spec satisfies never;
  }
}

/** Without an address that the driver knows, the guest requests one by DHCP. */
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
