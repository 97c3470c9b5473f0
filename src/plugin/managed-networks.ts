import type { pluginSchema } from './config-schema.ts';
import type { Complain } from './decode-fields.ts';
import type { Decoded } from './schema.ts';

export interface ManagedNetworkConfig {
  readonly bridge: string;
  /** The host's address on the bridge. */
  readonly address: string;
  readonly prefix: number;
  /** undefined: the host's own. */
  readonly nameservers?: readonly string[];
}

type Block = Decoded<typeof pluginSchema>['managed_network'][number];

/**
 * The blocks as networks; without a block there is one. Refuses, key by key, all that the network layer would refuse
 * when the backend is made: there it would be too late, for without a backend no running VM can be stopped or removed.
 */
export function readNetworks(
  blocks: readonly Block[],
  complain: Complain,
): readonly ManagedNetworkConfig[] {
  if (blocks.length === 0) return [defaultNetwork];
  const placed: Placed[] = [];
  return blocks.map((block, index) => {
    const about: Complain = (key, text) => complain(`managed_network[${index}].${key}`, text);
    checkBridge(block, blocks.slice(0, index), about);
    const { address, prefix } = readAddress(block, placed, about);
    checkNameservers(block.nameservers, about);
    const network = { bridge: block.bridge, address, prefix };
    return block.nameservers.length === 0
      ? network
      : { ...network, nameservers: block.nameservers };
  });
}

const defaultNetwork: ManagedNetworkConfig = {
  bridge: 'virbr0',
  address: '192.168.122.1',
  prefix: 24,
};

/** A block whose address is good, and the addresses it covers. */
interface Placed {
  readonly block: Block;
  readonly range: Range;
}

interface Range {
  readonly first: number;
  readonly last: number;
}

function checkBridge({ bridge }: Block, earlier: readonly Block[], complain: Complain): void {
  // Narrower than the kernel's rule: the name becomes part of paths and of nftables text.
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/.test(bridge)) {
    complain(
      'bridge',
      `${JSON.stringify(bridge)} is not a name for a bridge (1 to 15 letters, digits, dots, dashes and underscores, the first a letter or digit)`,
    );
  } else if (earlier.some((other) => other.bridge === bridge)) {
    complain('bridge', `${bridge} is there twice`);
  }
}

/** A good one is added to those that are placed. */
function readAddress(
  block: Block,
  placed: Placed[],
  complain: Complain,
): { readonly address: string; readonly prefix: number } {
  const [address = '', length = ''] = block.address.split('/', 2);
  const prefix = /^\d{1,2}$/.test(length) ? Number(length) : 0;
  const number = parseIpv4(address);
  const range = number === undefined ? undefined : rangeOf(number, prefix);
  const written = JSON.stringify(block.address);
  if (number === undefined || range === undefined || block.address !== `${address}/${length}`) {
    complain(
      'address',
      `${written} is not an IPv4 address with a prefix length from 8 to 29, such as "192.168.122.1/24"`,
    );
  } else if (number === range.first || number === range.last) {
    const which = number === range.first ? 'first' : 'last';
    const better = `${formatIpv4(range.first + 1)}/${prefix}`;
    complain(
      'address',
      `${written} is the ${which} address of its network, which no host can have: try "${better}"`,
    );
  } else {
    checkOverlap({ block, range }, placed, complain);
    placed.push({ block, range });
  }
  return { address, prefix };
}

function checkOverlap(
  { block, range }: Placed,
  placed: readonly Placed[],
  complain: Complain,
): void {
  for (const other of placed) {
    if (range.first > other.range.last || range.last < other.range.first) continue;
    const theirs = `${JSON.stringify(other.block.address)} of bridge ${other.block.bridge}`;
    complain('address', `${JSON.stringify(block.address)} overlaps with ${theirs}`);
  }
}

function checkNameservers(nameservers: readonly string[], complain: Complain): void {
  for (const [at, server] of nameservers.entries()) {
    if (parseIpv4(server) !== undefined) continue;
    complain(`nameservers[${at}]`, `${JSON.stringify(server)} is not an IPv4 address`);
  }
}

/** undefined where the prefix leaves no room for guests, or is too short to be meant. */
function rangeOf(address: number, prefix: number): Range | undefined {
  if (prefix < 8 || prefix > 29) return undefined;
  const size = 2 ** (32 - prefix);
  const first = address - (address % size);
  return { first, last: first + size - 1 };
}

function parseIpv4(text: string): number | undefined {
  const bytes = text.split('.');
  const good = bytes.every((it) => /^(0|[1-9]\d{0,2})$/.test(it) && Number(it) < 256);
  if (bytes.length !== 4 || !good) return undefined;
  return bytes.reduce((number, it) => number * 256 + Number(it), 0);
}

function formatIpv4(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.');
}
