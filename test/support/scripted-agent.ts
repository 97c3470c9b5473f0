import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { tmpDir } from './tmp.ts';

/** One line that came in, and the socket for whatever the agent does about it. */
export type Agent = (line: string, socket: Socket) => void;

/** A guest's port, with something behind it that answers line by line. */
export async function listen(t: TestContext, agent: Agent): Promise<string> {
  const path = join(tmpDir(t), 'agent.sock');
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    let rest = '';
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      const lines = (rest + chunk.toString('latin1')).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) agent(line, socket);
    });
  });
  server.listen(path);
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return path;
}

/** The id of a sync, which the restart byte precedes. */
export function syncId(line: string): number | undefined {
  if (!line.startsWith('\xff')) return undefined;
  const { execute, arguments: parameters } = JSON.parse(line.slice(1));
  return execute === 'guest-sync-delimited' ? parameters.id : undefined;
}

export function answerSync(line: string, socket: Socket): boolean {
  const id = syncId(line);
  if (id === undefined) return false;
  socket.write(Buffer.concat([Buffer.from([0xff]), Buffer.from(`{"return": ${id}}\n`)]));
  return true;
}
