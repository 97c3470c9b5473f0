import { type Attribute, decodeAttributes, readU32, u32 } from './attributes.ts';

/** MACVTAP_MODE: which interfaces a macvtap's frames may reach (linux/if_link.h, MACVLAN_MODE_*). */
export const macvtapModes = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
export type MacvtapMode = keyof typeof macvtapModes;

/** Kinds of links that can be made over rtnetlink. Taps are not among them: the kernel refuses that. */
export type LinkKind =
  | { readonly kind: 'bridge'; readonly stp: boolean; readonly forwardDelayMs: number }
  | { readonly kind: 'macvtap'; readonly lowerIndex: number; readonly mode: MacvtapMode };

/** Settings of a bridge port (IFLA_BRPORT_*). */
export interface BridgePort {
  /** Whether frames may leave by the port they came in. */
  readonly hairpin?: boolean;
}

/** The settings of a bridge that may be changed. */
export interface BridgeChange {
  /** Whether it learns the senders of frames to 01:80:c2:00:00:0X, which it never forwards. */
  readonly linkLocalLearn?: boolean;
}

const attribute = { lower: 5, info: 18 } as const;
const info = { kind: 1, data: 2, portKind: 4, portData: 5 } as const;
const bridge = { forwardDelay: 1, stp: 5, options: 46 } as const;
// BR_BOOLOPT_NO_LL_LEARN, bit 0 of struct br_boolopt_multi: u32 values, u32 mask.
const noLinkLocalLearn = 1;
const bridgePort = { hairpin: 4 } as const;
const macvtapMode = 1;
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

export function encodeBridgePort({ hairpin }: BridgePort): Attribute {
  const data: Attribute[] =
    hairpin === undefined ? [] : [[bridgePort.hairpin, Buffer.of(hairpin ? 1 : 0)]];
  return [
    attribute.info,
    [
      [info.portKind, 'bridge'],
      [info.portData, data],
    ],
  ];
}

/** What IFLA_LINKINFO has about a link: what it is, and its settings as a bridge or as the port of one. */
export interface LinkInfo extends BridgePort, BridgeChange {
  /** `bridge`, `veth`, `tun` (taps too), `macvtap`, …; undefined for real hardware. */
  readonly kind: string | undefined;
}

export function decodeInfo(bytes: Buffer | undefined): LinkInfo {
  if (bytes === undefined) return { kind: undefined };
  const found = decodeAttributes(bytes);
  // Not every kind's name ends in a NUL here.
  const [kind, portKind] = [info.kind, info.portKind].map((each) =>
    found.get(each)?.toString().replace(/\0.*$/s, ''),
  );
  const port = portKind === 'bridge' ? nested(found, info.portData) : undefined;
  const options = kind === 'bridge' ? nested(found, info.data)?.get(bridge.options) : undefined;
  const [hairpin, values] = [port?.get(bridgePort.hairpin)?.at(0), readU32(options)];
  return {
    kind,
    ...(hairpin !== undefined && { hairpin: hairpin !== 0 }),
    ...(values !== undefined && { linkLocalLearn: (values & noLinkLocalLearn) === 0 }),
  };
}

function nested(
  attributes: ReadonlyMap<number, Buffer>,
  type: number,
): ReadonlyMap<number, Buffer> | undefined {
  const bytes = attributes.get(type);
  return bytes && decodeAttributes(bytes);
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
