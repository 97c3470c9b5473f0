import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { maxSocketPathBytes } from '#spec';

/** A listening unix socket in a directory of its own, both gone when it is disposed of. */
export interface Listener extends Disposable {
  readonly path: string;
  /** Connections open now. */
  readonly connections: number;
}

/** Listens where the host asks for it, else in the directory for temporary files; only this user can connect. */
export async function listen(
  env: NodeJS.ProcessEnv,
  onConnection: (socket: Socket) => void,
): Promise<Listener> {
  const path = makeSocketPath(env);
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    onConnection(socket);
  });
  try {
    await bind(server, path);
    const group = env.PLUGIN_UNIX_SOCKET_GROUP;
    if (group) openToGroup(path, group);
  } catch (error) {
    rmSync(dirname(path), { recursive: true, force: true });
    throw error;
  }
  return {
    path,
    get connections() {
      return open.size;
    },
    [Symbol.dispose]: () => {
      server.close();
      rmSync(dirname(path), { recursive: true, force: true });
    },
  };
}

function makeSocketPath(env: NodeJS.ProcessEnv): string {
  const wanted = env.PLUGIN_UNIX_SOCKET_DIR;
  const places = wanted ? [wanted] : [env.TMPDIR || '/tmp', '/tmp'];
  let last: unknown;
  for (const place of places) {
    const prefix = join(resolve(place), 'qmp-');
    const bytes = Buffer.byteLength(join(`${prefix}XXXXXX`, 'plugin'));
    if (bytes > maxSocketPathBytes) {
      last = new Error(`${place} is too long a path for a unix socket`);
      continue;
    }
    try {
      return join(mkdtempSync(prefix), 'plugin');
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

async function bind(server: Server, path: string): Promise<void> {
  const before = process.umask(0o077);
  try {
    // The socket file is made inside this call.
    server.listen(path);
  } finally {
    process.umask(before);
  }
  await once(server, 'listening');
}

function openToGroup(path: string, group: string): void {
  const gid = /^\d+$/.test(group) ? Number(group) : groupId(group);
  if (gid === undefined) throw new Error(`PLUGIN_UNIX_SOCKET_GROUP: no group ${group}`);
  chownSync(dirname(path), -1, gid);
  chmodSync(dirname(path), 0o710);
  chownSync(path, -1, gid);
  chmodSync(path, 0o660);
}

function groupId(name: string): number | undefined {
  for (const line of readFileSync('/etc/group', 'utf8').split('\n')) {
    const [group, , gid] = line.split(':');
    if (group === name) return Number(gid);
  }
  return undefined;
}
