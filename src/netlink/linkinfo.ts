import { type Attribute, decodeAttributes, encodeAttributes, readU32, u32 } from './attributes.ts';

/** MACVTAP_MODE: which interfaces a macvtap's frames may reach (linux/if_link.h, MACVLAN_MODE_*). */
export const macvtapModes = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
export type MacvtapMode = keyof typeof macvtapModes;

/** Kinds of links that can be made over rtnetlink. Taps are not among them: the kernel refuses that. */
export type LinkKind =
  | { readonly kind: 'bridge'; readonly stp: boolean; readonly forwardDelayMs: number }
  | { readonly kind: 'veth'; readonly peer: string }
  | { readonly kind: 'macvtap'; readonly lowerIndex: number; readonly mode: MacvtapMode };

/** Settings of a bridge port (IFLA_BRPORT_*). */
export interface BridgePort {
  /** Whether frames may leave by the port they came in. */
  readonly hairpin?: boolean;
  /** Whether frames to and from other isolated ports are dropped. */
  readonly isolated?: boolean;
}

/** The settings of a bridge. */
export interface BridgeFacts {
  readonly stp: boolean;
  readonly forwardDelayMs: number;
  /** Whether it learns the senders of frames to 01:80:c2:00:00:0X, which it never forwards. */
  readonly linkLocalLearn: boolean;
}

/** The settings of a bridge that may be changed. */
export type BridgeChange = Partial<Pick<BridgeFacts, 'linkLocalLearn'>>;

const attribute = { name: 3, lower: 5, info: 18 } as const;
const info = { kind: 1, data: 2, portKind: 4, portData: 5 } as const;
const bridge = { forwardDelay: 1, stp: 5, options: 46 } as const;
// BR_BOOLOPT_NO_LL_LEARN, bit 0 of struct br_boolopt_multi: u32 values, u32 mask.
const noLinkLocalLearn = 1;
const bridgePort = { hairpin: 4, isolated: 33 } as const;
const macvtapMode = 1;
const vethPeer = 1;
// Bridge times are in hundredths of a second (clock_t, USER_HZ is 100 everywhere).
const msPerTick = 10;

/** A kind → the attributes that make such a link. */
export function encodeKind(kind: LinkKind): readonly Attribute[] {
  switch (kind.kind) {
    case 'bridge':
      return [
        linkInfo('bridge', [
          [bridge.forwardDelay, Math.round(kind.forwardDelayMs / msPerTick)],
          [bridge.stp, kind.stp ? 1 : 0],
        ]),
      ];
    case 'veth': {
      // The peer is described by a whole message of its own: struct ifinfomsg (16 bytes), then attributes.
      const peer = [Buffer.alloc(16), encodeAttributes([[attribute.name, kind.peer]])];
      return [linkInfo('veth', [[vethPeer, Buffer.concat(peer)]])];
    }
    case 'macvtap':
      return [
        [attribute.lower, kind.lowerIndex],
        linkInfo('macvtap', [[macvtapMode, u32(macvtapModes[kind.mode])]]),
      ];
    default:
      return kind satisfies never;
  }
}

export function encodeBridgeChange({ linkLocalLearn }: BridgeChange): Attribute {
  if (linkLocalLearn === undefined) return linkInfo('bridge', []);
  const values = u32(linkLocalLearn ? 0 : noLinkLocalLearn);
  return linkInfo('bridge', [[bridge.options, Buffer.concat([values, u32(noLinkLocalLearn)])]]);
}

export function encodeBridgePort(port: BridgePort): Attribute {
  const bit = (type: number, on: boolean | undefined): Attribute[] =>
    on === undefined ? [] : [[type, Buffer.of(on ? 1 : 0)]];
  const data = [
    ...bit(bridgePort.hairpin, port.hairpin),
    ...bit(bridgePort.isolated, port.isolated),
  ];
  return [
    attribute.info,
    [
      [info.portKind, 'bridge'],
      [info.portData, data],
    ],
  ];
}

/** IFLA_LINKINFO bytes → the kind's name and, for a bridge, its settings. */
export function decodeLinkInfo(bytes: Buffer | undefined): {
  readonly kind: string | undefined;
  readonly bridge: BridgeFacts | undefined;
} {
  if (bytes === undefined) return { kind: undefined, bridge: undefined };
  const parts = decodeAttributes(bytes);
  // Not every kind's name ends in a NUL here.
  const kind = parts.get(info.kind)?.toString().replace(/\0.*$/s, '');
  const data = parts.get(info.data);
  return { kind, bridge: kind === 'bridge' && data ? decodeBridge(data) : undefined };
}

function decodeBridge(bytes: Buffer): BridgeFacts {
  const settings = decodeAttributes(bytes);
  return {
    stp: (readU32(settings.get(bridge.stp)) ?? 0) !== 0,
    forwardDelayMs: (readU32(settings.get(bridge.forwardDelay)) ?? 0) * msPerTick,
    linkLocalLearn: ((readU32(settings.get(bridge.options)) ?? 0) & noLinkLocalLearn) === 0,
  };
}

function linkInfo(kind: string, data: readonly Attribute[]): Attribute {
  return [
    attribute.info,
    [
      [info.kind, kind],
      [info.data, data],
    ],
  ];
}
