import { closeSync, openSync, read } from 'node:fs';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Waiting } from '#spec';
import { HostError } from '../error.ts';
import { abortable, endsWithin } from '../waiting.ts';
import type { ProcessIdentity } from './process.ts';

/** The arguments are read at once, or the page that holds them waits for a file system that hangs. */
const argumentsMs = 500;
const readAside = promisify(read);
/** More than the command line of any VM. */
const firstBytes = 64 * 1024;

/** Reads that hang, by process: each occupies one of the threads in which Node does all work on files. */
const hanging = new Set<string>();
const maxHanging = 2;

let lastRead: Promise<unknown> = Promise.resolve();

/**
 * The arguments of a process. Empty for one that has ended, and for one whose memory can't be read. One process at a time, so
 * that at most `maxHanging` of them occupy a thread. Throws HostError where those do.
 */
export function argumentsOf(
  identity: ProcessIdentity,
  waiting: Waiting,
): Promise<readonly string[]> {
  const reading = lastRead.then(() => {
    waiting.signal.throwIfAborted();
    return readArguments(identity, waiting);
  });
  lastRead = reading.catch(() => {});
  return reading;
}

async function readArguments(
  { pid, startTicks }: ProcessIdentity,
  waiting: Waiting,
): Promise<readonly string[]> {
  const key = `${pid} ${startTicks}`;
  if (hanging.has(key)) return [];
  if (hanging.size >= maxHanging) {
    const others = [...hanging].map((key) => key.split(' ')[0]).join(' and ');
    throw new HostError(`searching processes: the memory of ${others} can't be read`);
  }
  const read = readText(pid).catch(() => '');
  hanging.add(key);
  void read.then(() => hanging.delete(key));
  // The threads take what there is to do in its order: after this answer one of them has begun with the read.
  await abortable(Promise.race([read, stat('/proc')]), waiting);
  const text = (await endsWithin(read, argumentsMs)) ? await read : '';
  return text.split('\0');
}

/** In one step of one thread: opening such a file looks at no memory. */
async function readText(pid: number): Promise<string> {
  const fd = openSync(`/proc/${pid}/cmdline`, 'r');
  try {
    for (let bytes = firstBytes; ; bytes *= 2) {
      const buffer = Buffer.allocUnsafe(bytes);
      const { bytesRead } = await readAside(fd, buffer, 0, bytes, 0);
      if (bytesRead < bytes) return buffer.toString('utf8', 0, bytesRead);
    }
  } finally {
    closeSync(fd);
  }
}
