import {
  type MacvtapNic,
  macvtapModes,
  type NicSpec,
  quoted,
  smallestMtu6,
  userAddress,
} from '#spec';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';
import { withPlaces } from '../places.ts';
import { addressFields, readAddress, readFixedAddress, refuseAddress } from './address.ts';
import { bandwidthFields, readBandwidth, refuseBandwidth } from './bandwidth.ts';
import { cardFields, readCard } from './card.ts';
import {
  automaticNic,
  groupNetns,
  groupNicFields,
  readGroupNic,
  refusePortsElsewhere,
} from './group.ts';
import { type ReadPorts, readerOfPorts } from './ports.ts';

/** IFNAMSIZ is 16 with its NUL. */
const maxNameBytes = 15;

const ports = {
  kind: 'attr',
  type: 'list(string)',
  default: [],
  doc: "Labels of the group's `network { port }` blocks that are forwarded to this guest, TCP and UDP. The guest's port is `to`, or that of the host when `to` is not set.",
  example: '["http"]',
} as const;

export const nicFields = {
  network_interface: {
    kind: 'block-list',
    doc: 'A network interface of the guest, up to 31 times; the guest sees them in this order. Each has exactly one of `bridge`, `macvtap`, `user` and `group`. Without any the guest has one in the network of its group, or none where the group uses that of the host.',
    fields: {
      bridge: {
        kind: 'block',
        doc: 'The host bridge the interface is on.',
        fields: {
          name: {
            kind: 'attr',
            type: 'string',
            required: true,
            doc: 'Name of the bridge: a managed network, or one that the agent allows with `bridges`.',
            example: '"virbr0"',
          },
          ports,
        },
      },
      user: {
        kind: 'block',
        doc: "QEMU's user-mode network, which needs nothing of the host: the guest is reached at its ports and reaches nothing itself. At most one interface is of this kind.",
        fields: {
          ports: {
            ...ports,
            doc: "Labels of the group's `network { port }` blocks that are forwarded to this guest, TCP and UDP; over UDP its answers are dropped. The guest's port is `to`, or that of the host when `to` is not set.",
          },
        },
      },
      macvtap: {
        kind: 'block',
        doc: "A link of the guest's own on a network device of the host: the guest is on the device's network and asks for its address there, or has the one that the job gives it. The host itself does not reach it.",
        fields: {
          device: {
            kind: 'attr',
            type: 'string',
            required: true,
            doc: 'Name of the device, one that the agent allows with `macvtap_devices`.',
            example: '"eno1"',
          },
          mode: {
            kind: 'attr',
            type: 'string',
            default: 'bridge',
            doc: '`bridge`: guests on the device reach each other; `private`: they do not; `vepa`: through the switch outside only; `passthrough`: the device is for this guest alone, which has its MAC address.',
            example: '"bridge"',
          },
        },
      },
      ...groupNicFields,
      ...addressFields,
      ...cardFields,
      ...bandwidthFields,
      default_route: {
        kind: 'attr',
        type: 'bool',
        default: false,
        doc: "The guest's default route goes through this interface instead of the first one. At most one interface has it.",
        example: 'true',
      },
    },
  },
} as const satisfies Fields;

const kinds = ['bridge', 'macvtap', 'user', 'group'] as const;

type Block = Decoded<typeof nicFields>['network_interface'][number];

/** Where a block is, and what its parts are read with. */
interface Place {
  readonly index: number;
  readonly path: string;
  readonly report: Job['report'];
  readonly readPorts: ReadPorts;
  /** Path of the namespace that the group's tasks share. */
  readonly netns: string | undefined;
}

export function readNics(
  { network_interface: all }: Decoded<typeof nicFields>,
  { task, report }: Job,
  /** Label of the port at which the display is seen. */
  displayPort: string | undefined,
): readonly NicSpec[] {
  const blocks = withPlaces(all, { key: 'network_interface', what: 'interfaces', report });
  const readPorts = readerOfPorts(task, report);
  const netns = groupNetns(task);
  if (blocks.length === 0 && netns !== undefined) {
    return [automaticNic(netns, task, { readPorts, displayPort })];
  }
  const read = blocks.map((block, index) =>
    readNic(block, { index, path: `network_interface[${index}]`, report, readPorts, netns }),
  );
  refuseTwice(blocks, read, report);
  return read.filter((nic) => nic !== undefined);
}

/** What only one of the interfaces can have. */
function refuseTwice(
  blocks: readonly Block[],
  read: readonly (NicSpec | undefined)[],
  report: Job['report'],
): void {
  const refuseSecond = (isOne: (block: Block) => boolean, key: string, text: string): void => {
    for (const [index, block] of blocks.entries()) {
      if (isOne(block) && blocks.findIndex(isOne) < index) {
        report(`network_interface[${index}].${key}`, text);
      }
    }
  };
  const macs = read.map((nic) => nic?.mac);
  for (const [index, mac] of macs.entries()) {
    if (mac === undefined || macs.indexOf(mac) === index) continue;
    report(`network_interface[${index}].mac`, `is that of network_interface[${macs.indexOf(mac)}]`);
  }
  refuseSecond(
    (block) => block.default_route,
    'default_route',
    'only one interface can have the default route',
  );
  // Their guests' addresses are the same.
  refuseSecond(
    ({ user }) => user !== undefined,
    'user',
    'only one interface can be in the user-mode network',
  );
  refuseSecond(
    ({ group }) => group !== undefined,
    'group',
    'only one interface can be in the network of the group',
  );
}

function readNic(block: Block, place: Place): NicSpec | undefined {
  const { bridge, macvtap, user, group, queues, default_route } = block;
  const { path, report, readPorts, netns } = place;
  const common = {
    ...readCard(block, place),
    ...readBandwidth(block, place),
    ...(default_route ? ({ defaultRoute: true } as const) : {}),
  };
  if (block.ip6 !== undefined && (block.mtu ?? smallestMtu6) < smallestMtu6) {
    report(`${path}.ip6`, `needs an mtu of ${smallestMtu6} or more, not ${block.mtu}`);
  }
  const [first, second] = kinds.filter((kind) => block[kind] !== undefined);
  if (second !== undefined) report(path, `${first} and ${second} are mutually exclusive`);
  if (netns !== undefined) {
    refusePortsElsewhere('bridge', bridge?.ports ?? [], place);
    refusePortsElsewhere('user', user?.ports ?? [], place);
  }
  if (bridge !== undefined) {
    checkBridgeName(bridge.name, place);
    const ports = readPorts(bridge.ports, `${path}.bridge.ports`);
    const address = readAddress(block, place);
    return { kind: 'bridge', bridge: bridge.name, ports, ...address, ...common };
  }
  if (macvtap !== undefined) {
    return {
      kind: 'macvtap',
      device: macvtap.device,
      mode: readMode(macvtap.mode, place),
      ports: [],
      ...readFixedAddress(block, place),
      ...common,
    };
  }
  if (user !== undefined) {
    refuseAddress(block, place, `goes with a bridge or macvtap: the guest has ${userAddress} here`);
    if (queues > 1) report(`${path}.queues`, 'the user-mode network has one queue');
    refuseBandwidth(
      block,
      place,
      'QEMU limits no user-mode network: use a bridge, macvtap or group',
    );
    return { kind: 'user', ports: readPorts(user.ports, `${path}.user.ports`), ...common };
  }
  if (group !== undefined) {
    refuseAddress(block, place, 'goes with a bridge or macvtap: the driver chooses it here');
    const nic = readGroupNic(group, netns, place);
    return nic && { ...nic, ...common };
  }
  report(`${path}.bridge`, 'is required, or macvtap, user or group in its place');
  return undefined;
}

function readMode(mode: string, { path, report }: Place): MacvtapNic['mode'] {
  const known = macvtapModes.find((name) => name === mode);
  if (known !== undefined) return known;
  const list = macvtapModes.join(', ');
  report(
    `${path}.macvtap.mode`,
    `macvtap has invalid mode ${quoted(mode)}; must be one of: ${list}`,
  );
  return 'bridge';
}

function checkBridgeName(name: string, { index, path, report }: Place): void {
  if (name === '') {
    report(path, `network interface bridge '${index}' requires name parameter`);
  } else if (Buffer.byteLength(name) > maxNameBytes) {
    report(`${path}.bridge.name`, `${quoted(name)} is longer than the name of any bridge`);
  }
}
