// What NBD servers send, honest ones and others (the protocol's doc/proto.md).

export const nbdErrors = {
  unsupported: 0x80000001,
  tls: 0x80000005,
  unknownExport: 0x80000006,
  blockSize: 0x80000008,
} as const;

/** Of a server with options; 3: fixed, and without zeros behind them. */
export function greeting(flags = 3): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.write('NBDMAGICIHAVEOPT', 'latin1');
  bytes.writeUInt16BE(flags, 16);
  return bytes;
}

/** Of a server of the first protocol: it states the size at once. */
export function oldGreeting(size: bigint): Buffer {
  const bytes = Buffer.alloc(152);
  bytes.write('NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53', 'latin1');
  bytes.writeBigUInt64BE(size, 16);
  return bytes;
}

/** To the question what an export is. */
export function nbdReply(type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(20);
  header.writeBigUInt64BE(0x3e889045565a9n, 0);
  header.writeUInt32BE(6, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(data.length, 16);
  return Buffer.concat([header, data]);
}

/** 1: there are flags, 2: read-only. */
export function exportInfo(size: bigint, flags = 1): Buffer {
  const data = Buffer.alloc(12);
  data.writeBigUInt64BE(size, 2);
  data.writeUInt16BE(flags, 10);
  return nbdReply(3, data);
}
