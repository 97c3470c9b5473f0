import type { SeedNic } from '#cloudinit';
import { openVhostNet, vhostNet } from '#host';
import type { AttachedNic, ClaimedNic, Net, NicAddress } from '#net';
import {
  type Emulator,
  type MachinePlan,
  missingModel,
  type NicDescription,
  nic,
  tapRoles,
  vhostRoles,
} from '#qemu';
import { type GuestSpec, groupEnv, type NicSpec, type Waiting } from '#spec';
import { VmError, withVmError } from '../error.ts';
import type { LateFacts, Prepared, Site } from './device.ts';
import { once } from './once.ts';

/** Cards that the emulator does not have, and networks that this agent does not allow. */
export function nicProblems(
  specs: readonly NicSpec[],
  {
    emulator,
    networks,
  }: {
    readonly emulator: Pick<Emulator, 'path' | 'devices'>;
    readonly networks: Pick<Net, 'problemOf'>;
  },
): readonly VmError[] {
  return specs.flatMap((spec, index) => {
    const { model } = spec;
    const missing = model === undefined ? undefined : missingModel(model, emulator);
    const texts = [
      ...(missing === undefined ? [] : [`network_interface[${index}].model: ${missing}`]),
      ...[networks.problemOf(spec)].filter((text) => text !== undefined),
    ];
    return texts.map((text) => new VmError('host', text));
  });
}

/** Whether this host's kernel serves the taps of such a VM. Under TCG QEMU is the slow part, and libvirt does not use it. */
export async function usesVhost(
  { accelerator }: Pick<MachinePlan, 'accelerator'>,
  verdict: typeof vhostNet = vhostNet,
): Promise<boolean> {
  return accelerator === 'kvm' && (await verdict()).usable;
}

/** What a NIC is connected with. */
interface NicParts {
  readonly networks: Net;
  readonly guest: GuestSpec;
  /** Whether the kernel serves the queues of its taps. */
  readonly vhost: boolean;
  readonly site: Site;
}

/**
 * Opens the VM's NICs. Their addresses are claimed while QEMU initialises, one after the other: two of them may compete
 * for one.
 */
export async function prepareNics(
  specs: readonly NicSpec[],
  parts: Omit<NicParts, 'site'>,
  site: Site,
  waiting: Waiting,
): Promise<readonly Prepared[]> {
  const prepared: Prepared[] = [];
  const route = Math.max(
    0,
    specs.findIndex(({ defaultRoute }) => defaultRoute === true),
  );
  let former = async (): Promise<unknown> => undefined;
  for (const [index, spec] of specs.entries()) {
    const request = { ...spec, index, isDefaultRoute: index === route };
    const after = former;
    const nic = await prepareNic(request, { ...parts, site }, after, waiting);
    former = nic.facts;
    prepared.push(nic);
  }
  return prepared;
}

async function prepareNic(
  spec: NicSpec & { readonly index: number; readonly isDefaultRoute: boolean },
  { networks, guest, vhost, site }: NicParts,
  former: () => Promise<unknown>,
  waiting: Waiting,
): Promise<Extract<Prepared, LateFacts>> {
  const { index, isDefaultRoute } = spec;
  const { hostname, dns, env } = guest;
  const request = { ...spec, vm: site.vm, hostname, dns };
  const attached = await withVmError(() =>
    networks.vmStartedBuild(
      request,
      { perform: (step, action) => site.undo.perform({ kind: 'net', step }, action) },
      waiting,
    ),
  );
  const { mac, mtu, backend } = attached;
  const own = connected(spec, backend, { vhost, site });
  const part = nic({ index, mac, mtu, backend: own, ...modelOf(spec) });
  const claim = once(async () => {
    await former();
    const claimed = await withVmError(() => attached.claim(waiting));
    site.emit(...attachedEvent(spec, { ...attached, ...claimed }));
    return claimed;
  });
  return {
    part,
    facts: once(async () => {
      const claimed = await claim();
      const { record, address } = claimed;
      return {
        record: { id: part.id, ...record },
        ...(address?.host !== undefined && { hostAddress: address.host }),
        guest: {
          nics: [{ ...seedNic({ ...attached, ...claimed }, spec, dns), isDefaultRoute }],
          ...(record.kind === 'group-nic' && { env: groupEnv(env, record) }),
        },
      };
    }),
    // The guest must not run before the rules that filter its traffic are in place.
    finish: async () => {
      const { settle } = await claim();
      for (const note of await withVmError(() => settle(waiting))) site.emit(note);
      return [];
    },
  };
}

/** The backend for QEMU: a tap has a file for each queue, and another one where the kernel serves it. */
function connected(
  spec: NicSpec & { readonly index: number },
  backend: AttachedNic['backend'],
  { vhost, site }: Pick<NicParts, 'vhost' | 'site'>,
): NicDescription['backend'] {
  if (backend.kind !== 'tap') return backend;
  const queues = backend.fds.length;
  const roles = tapRoles(spec.index, queues);
  for (const [queue, fd] of backend.fds.entries()) site.files.add(roles[queue] ?? '', fd);
  return { kind: 'tap', queues, vhost: vhost && openVhost(spec, queues, site) };
}

/** Opens the device for each queue of a NIC's tap. Other cards than virtio's are QEMU's own work. */
export function openVhost(
  { index, model = 'virtio' }: Pick<NicSpec, 'model'> & { readonly index: number },
  queues: number,
  { vm, files, log }: Pick<Site, 'vm' | 'files' | 'log'>,
  open: typeof openVhostNet = openVhostNet,
): boolean {
  if (model !== 'virtio') return false;
  const roles = vhostRoles(index, queues);
  try {
    for (const [queue, fd] of open(queues).entries()) files.add(roles[queue] ?? '', fd);
    return true;
  } catch (error) {
    log.warn('vhost-net could not be opened, QEMU copies the frames itself', { vm, error });
    return false;
  }
}

function modelOf({ model }: NicSpec): Pick<NicSpec, 'model'> {
  return model === undefined ? {} : { model };
}

function attachedEvent(
  spec: NicSpec,
  { mac, backend, address }: AttachedNic & ClaimedNic,
): readonly [string, Readonly<Record<string, string>>] {
  const tap = backend.kind === 'tap' ? { tap: backend.name } : {};
  const facts = { mac, ...tap };
  switch (spec.kind) {
    case 'bridge': {
      if (address === undefined) return [`Joined bridge ${spec.bridge}`, facts];
      return [`Address ${written(address)} on ${spec.bridge}`, { ...facts, ...ip6Of(address) }];
    }
    case 'macvtap': {
      const kind = `macvtap, ${spec.mode}`;
      if (address === undefined) return [`Joined the network of ${spec.device} (${kind})`, facts];
      return [
        `Address ${written(address)} on ${spec.device} (${kind})`,
        { ...facts, ...ip6Of(address) },
      ];
    }
    case 'group': {
      if (address === undefined) return ['Joined the network of the group', facts];
      const text = `Address ${written(address)} in the network of the group`;
      return [text, { ...facts, ...ip6Of(address) }];
    }
    case 'user':
      return [
        'Joined a user-mode network: only its ports are open; over UDP its answers are dropped',
        facts,
      ];
    default:
      return spec satisfies never;
  }
}

function written({ ip, six }: NicAddress): string {
  return six === undefined ? ip : `${ip} and ${six.ip}`;
}

function ip6Of({ six }: NicAddress): Readonly<Record<string, string>> {
  return six === undefined ? {} : { ip6: six.ip };
}

/** Without an address that the driver knows, the guest requests one by DHCP. */
function seedNic(
  { mac, mtu, backend, address, record }: AttachedNic & Pick<ClaimedNic, 'address' | 'record'>,
  asked: Pick<NicSpec, 'mtu'>,
  dns: GuestSpec['dns'],
): SeedNic {
  const { servers, searches } = dns ?? { servers: [], searches: [] };
  if (address === undefined) {
    // The network's own is a matter of its DHCP server.
    const own = asked.mtu === undefined ? {} : { mtu: asked.mtu };
    const sharesDhcp = backend.kind === 'tap';
    return { mac, ...own, nameservers: servers, searches, sharesDhcp };
  }
  // In the network of a group the address contains those of the job, as the guest reaches them.
  const replaces = servers.length > 0 && record.kind !== 'group-nic';
  return {
    mac,
    mtu,
    address: address.ip,
    prefix: address.prefix,
    ...(address.gateway !== undefined && { gateway: address.gateway }),
    ...(address.six && { six: address.six }),
    nameservers: replaces ? servers : address.nameservers,
    // A job's own servers know nothing of the network's names.
    searches: replaces ? searches : [...new Set([...searches, ...address.searches])],
  };
}
