import { macProblem, maxMtuOf, type NicCommon, quoted } from '#spec';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';

/** QEMU takes up to 1024; each is a pair of rings and a file. */
const maxQueues = 16;

/** What the network card of any kind of interface may have. */
export const cardFields = {
  model: {
    kind: 'attr',
    type: 'string',
    oneOf: ['virtio', 'e1000e', 'rtl8139', 'vmxnet3'],
    default: 'virtio',
    doc: 'The network card that the guest sees: `virtio` is the fastest by far, the others are for systems without its driver.',
    example: '"virtio"',
  },
  mac: {
    kind: 'attr',
    type: 'string',
    doc: "MAC address of the card. Left out, it follows from the task's id and stays the same. One that another VM of this host has is an error.",
    example: '"52:54:00:12:34:56"',
  },
  mtu: {
    kind: 'attr',
    type: 'number',
    min: 576,
    max: 65_535,
    doc: "Maximum of bytes in a packet, at most that of the network, and 16110 with `e1000e`, 9000 with `vmxnet3`, 1500 with `rtl8139`. Left out, it is the network's, or that of the card. With less than 1280 the guest has no IPv6.",
    example: '1400',
  },
  queues: {
    kind: 'attr',
    type: 'number',
    min: 1,
    max: maxQueues,
    default: 1,
    doc: 'Pairs of queues of a virtio card on a tap, so that several virtual CPUs send and receive at once.',
    example: '2',
  },
} as const satisfies Fields;

export function readCard(
  { model, mac, mtu, queues }: Decoded<typeof cardFields>,
  { path, report }: { readonly path: string; readonly report: Job['report'] },
): NicCommon {
  const problem = mac === undefined ? undefined : macProblem(mac);
  if (problem !== undefined) report(`${path}.mac`, `${quoted(mac ?? '')} ${problem}`);
  if (queues > 1 && model !== 'virtio') {
    report(`${path}.queues`, `a card of model ${model} has one queue`);
  }
  if (mtu !== undefined && mtu > maxMtuOf(model)) {
    report(`${path}.mtu`, `a card of model ${model} carries ${maxMtuOf(model)} bytes`);
  }
  return {
    ...(model === 'virtio' ? {} : { model }),
    ...(mac === undefined ? {} : { mac: mac.toLowerCase() }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(queues === 1 ? {} : { queues }),
  };
}
