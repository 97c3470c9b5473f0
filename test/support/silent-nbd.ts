import { chmodSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { exportInfo, greeting, nbdErrors, nbdReply } from './nbd-bytes.ts';
import { tmpDir } from './tmp.ts';

const option = { go: 7, info: 6 } as const;
const acknowledged = 1;

/** The socket of an NBD server that states what its export is, and answers no request for data. */
export async function silentNbd(t: TestContext): Promise<string> {
  const path = join(tmpDir(t), 'silent.sock');
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    socket.write(greeting());
    let bytes = Buffer.alloc(0);
    let flags = 4;
    socket.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      if (flags > 0 && bytes.length >= flags) {
        bytes = bytes.subarray(flags);
        flags = 0;
      }
      while (flags === 0 && bytes.length >= 16) {
        const end = 16 + bytes.readUInt32BE(12);
        if (bytes.length < end) return;
        for (const reply of answers(bytes.readUInt32BE(8))) socket.write(reply);
        bytes = bytes.subarray(end);
      }
    });
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  chmodSync(join(path, '..'), 0o755);
  chmodSync(path, 0o777);
  return path;
}

function answers(asked: number): readonly Buffer[] {
  if (asked !== option.go && asked !== option.info)
    return [optionReply(asked, nbdErrors.unsupported)];
  return [exportInfo(2n ** 20n), nbdReply(acknowledged)].map((reply) => toOption(asked, reply));
}

const optionReply = (asked: number, type: number): Buffer => toOption(asked, nbdReply(type));

/** A reply repeats the number of what was asked. */
function toOption(asked: number, reply: Buffer): Buffer {
  reply.writeUInt32BE(asked, 8);
  return reply;
}
