import type { Allocation } from './allocation.ts';
import { askFromHost, type Machine } from './guest.ts';

/** Who speaks with whom in the network of a group, and where in one family of addresses. */
export interface GroupWays {
  readonly outside: Machine;
  readonly allocation: Allocation;
  readonly container: Allocation;
  readonly guest: Machine;
  readonly at: {
    readonly host: string;
    readonly outside: string;
    readonly allocation: string;
    readonly container: string;
    /** The host's in the containers' network. */
    readonly containerGateway: string;
    /** The guest's own, and that of its router. */
    readonly own: string;
    readonly gateway: string;
  };
}

/**
 * What works in both families for a guest that serves at 80 and 81, published at 80, at 9180 and at the host's 18080, beside
 * programs outside (7000), in another container (7001) and of a sibling (9000): a name, the question, the answer.
 */
export function groupWays(
  protocol: 'tcp' | 'udp',
  { outside, allocation, container, guest, at }: GroupWays,
): readonly (readonly [string, () => Promise<string>, string])[] {
  return [
    [
      'from outside at a published port',
      () => outside.ask(protocol, at.host, 18_080),
      `guest saw ${at.outside}`,
    ],
    [
      'from the host at its address',
      () => askFromHost(protocol, at.host, 18_080),
      `guest saw ${at.host}`,
    ],
    [
      "from the host at the allocation's address, where Nomad registers services",
      () => askFromHost(protocol, at.allocation, 80),
      `guest saw ${at.containerGateway}`,
    ],
    [
      'from another container',
      () => container.ask(protocol, at.allocation, 80),
      `guest saw ${at.container}`,
    ],
    [
      'from another container at a port that has another number in the guest',
      () => container.ask(protocol, at.allocation, 9180),
      `guest saw ${at.container}`,
    ],
    [
      "the guest to outside, with the host's address",
      () => guest.ask(protocol, at.outside, 7000),
      `outside saw ${at.host}`,
    ],
    [
      "the guest to another container, with the allocation's address",
      () => guest.ask(protocol, at.container, 7001),
      `container saw ${at.allocation}`,
    ],
    [
      "a sibling to the guest's own address, at any port",
      () => allocation.ask(protocol, at.own, 81),
      `guest saw ${at.gateway}`,
    ],
    [
      "a sibling at the allocation's address",
      () => allocation.ask(protocol, at.allocation, 80),
      `guest saw ${at.allocation}`,
    ],
    [
      'the guest to a sibling at the gateway address',
      () => guest.ask(protocol, at.gateway, 9000),
      `sibling saw ${at.own}`,
    ],
    [
      "the guest to a sibling at the allocation's address",
      () => guest.ask(protocol, at.allocation, 9000),
      `sibling saw ${at.own}`,
    ],
    [
      'the guest to itself at its published port',
      () => guest.ask(protocol, at.allocation, 80),
      `guest saw ${at.gateway}`,
    ],
    [
      'another container to a sibling, whose port stays its own',
      () => container.ask(protocol, at.allocation, 9000),
      `sibling saw ${at.container}`,
    ],
  ];
}
