import type { Waiting } from '#spec';
import { decodeAttributes, decodeList, encodeAttributes, readText } from './attributes.ts';
import { flag } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

// linux/netfilter/nf_tables.h: NFT_MSG_NEWSET and so on, of the subsystem of nftables.
const subsystem = 10 << 8;
const messageType = {
  newSet: subsystem | 9,
  getSet: subsystem | 10,
  newElements: subsystem | 12,
  getElements: subsystem | 13,
} as const;
const setAttribute = { table: 1, name: 2, flags: 3 } as const;
const elementsAttribute = { table: 1, set: 2, elements: 3 } as const;
// NFT_SET_ANONYMOUS, NFT_SET_TIMEOUT, NFT_SET_EVAL: part of a rule, or filled by packets.
const notFixed = 0x1 | 0x10 | 0x20;
// NFPROTO_* (linux/netfilter.h).
const families: Readonly<Record<string, number>> = { inet: 1, netdev: 5, bridge: 7 };
// struct nfgenmsg: family, version, resource id.
const headerBytes = 4;

/**
 * The elements of the sets and maps of a table, each as the kernel's bytes in hexadecimal digits, sorted; without sets that
 * packets add to. Throws NetlinkError, ENOENT where there is no such table.
 */
export async function setElements(
  netfilter: NetlinkSocket,
  { family, table }: { readonly family: string; readonly table: string },
  waiting: Waiting,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(families[family] ?? 0);
  const body = (attributes: Parameters<typeof encodeAttributes>[0]) =>
    Buffer.concat([header, encodeAttributes(attributes)]);
  const sets = await netfilter.request(
    {
      what: `list the sets of table ${table}`,
      type: messageType.getSet,
      flags: flag.dump,
      body: body([[setAttribute.table, table]]),
    },
    waiting,
  );
  const found = new Map<string, readonly string[]>();
  for (const { type, body: bytes } of sets) {
    if (type !== messageType.newSet) continue;
    const attributes = decodeAttributes(bytes.subarray(headerBytes));
    const [name, flags] = [attributes.get(setAttribute.name), attributes.get(setAttribute.flags)];
    const set = readText(name);
    if (set === undefined || ((flags?.readUInt32BE() ?? 0) & notFixed) !== 0) continue;
    const answer = await netfilter.request(
      {
        what: `list the elements of set ${set}`,
        type: messageType.getElements,
        flags: flag.dump,
        body: body([
          [elementsAttribute.table, table],
          [elementsAttribute.set, set],
        ]),
      },
      waiting,
    );
    const elements = answer.flatMap((message) => {
      if (message.type !== messageType.newElements) return [];
      const list = decodeAttributes(message.body.subarray(headerBytes));
      const own = list.get(elementsAttribute.elements);
      return own === undefined ? [] : decodeList(own).map((each) => each.toString('hex'));
    });
    found.set(set, elements.toSorted());
  }
  return found;
}
