import { network6, smallestMtu6 } from '#spec';
import type { Claim } from '../store/claim.ts';
import { encodeDomains } from './domains.ts';
import { macBytes, type Network6, namesFor } from './network6.ts';

export const routerSolicitation = 133;
const routerAdvertisement = 134;
const hopLimit = 64;
/** Addresses and all else are to be asked for by DHCPv6 (RFC 4861, 4.2: managed, other configuration). */
const managed = 0xc0;
/** 18 hours, the longest that there is (RFC 8319): guests keep their way out while no plugin runs. */
const routerSeconds = 65_535;
const infinite = 0xffffffff;
/** The prefix is on the link, and no address is to be made from it. */
const onLink = 0x80;
const maxNameservers = 8;
const maxDomainBytes = 512;

const option = { source: 1, prefix: 3, mtu: 5, nameservers: 25, searches: 31 } as const;

/**
 * What the router of a network announces to one guest (RFC 4861, 4.2; RFC 8106), as ICMPv6 without its checksum. Each guest gets one
 * of its own, as jobs have name servers and an MTU of their own, and may have their default route elsewhere.
 */
export function encodeAdvertisement(claim: Claim, network: Network6): Buffer {
  const isRouter = claim.isDefaultRoute !== false;
  const { nameservers, searches } = namesFor(claim, network);
  const header = Buffer.alloc(16);
  header.set([routerAdvertisement, 0, 0, 0, hopLimit, managed], 0);
  header.writeUInt16BE(isRouter ? routerSeconds : 0, 6);
  return Buffer.concat([
    header,
    encodeOption(option.source, Buffer.from(macBytes(network.mac))),
    encodeMtu(claim.mtu ?? network.mtu),
    encodePrefix(network),
    encodeNames(
      option.nameservers,
      Buffer.concat(nameservers.slice(0, maxNameservers).map(octets)),
    ),
    encodeNames(option.searches, encodeDomains(searches, maxDomainBytes)),
  ]);
}

function encodeMtu(mtu: number): Buffer {
  return mtu < smallestMtu6 ? Buffer.alloc(0) : encodeOption(option.mtu, u16(0), u32(mtu));
}

function encodePrefix({ address }: Network6): Buffer {
  const flags = Buffer.of(address.prefix, onLink);
  const times = [u32(infinite), u32(infinite), u32(0)];
  return encodeOption(option.prefix, flags, ...times, octets(network6(address)));
}

function encodeNames(code: number, names: Buffer): Buffer {
  return names.length === 0 ? names : encodeOption(code, u16(0), u32(infinite), names);
}

/** Its length is counted in units of eight bytes. */
function encodeOption(code: number, ...parts: readonly Buffer[]): Buffer {
  const value = Buffer.concat(parts);
  const units = Math.ceil((2 + value.length) / 8);
  return Buffer.concat([Buffer.of(code, units), value], 8 * units);
}

function octets(address: bigint): Buffer {
  return Buffer.from(address.toString(16).padStart(32, '0'), 'hex');
}

function u16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
