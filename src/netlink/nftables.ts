import type { Waiting } from '#spec';
import { decodeAttributes } from './attributes.ts';
import { NetlinkError } from './error.ts';
import type { NetlinkSocket } from './socket.ts';

// linux/netfilter/nfnetlink.h and nf_tables.h: the subsystem, NFT_MSG_NEWGEN and NFT_MSG_GETGEN, NFTA_GEN_ID.
const subsystem = 10 << 8;
export const newGeneration = subsystem | 15;
const getGeneration = subsystem | 16;
const attribute = { id: 1 } as const;
/** struct nfgenmsg: no family, version 0, resource id 0. */
const header = Buffer.alloc(4);

/**
 * The number of the rules in the network namespace of the socket (of the netfilter family), 32 bits: every transaction
 * adds one to it, whichever program makes it. What packets add to sets does not count. Throws NetlinkError.
 */
export async function ruleGeneration(socket: NetlinkSocket, waiting: Waiting): Promise<number> {
  const what = "read the rules' generation";
  const request = { what, type: getGeneration, flags: 0, body: header };
  const answer = await socket.request(request, waiting);
  const body = answer.find(({ type }) => type === newGeneration)?.body;
  const id = body && decodeAttributes(body.subarray(header.length)).get(attribute.id);
  if (id?.length !== 4) throw new NetlinkError(`${what}: not in the kernel's answer`);
  return id.readUInt32BE();
}
