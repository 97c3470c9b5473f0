import { attempt, must } from '../native/libc.ts';
import { closeFd, setNonBlocking } from './descriptor.ts';

const oCloexec = 0o2000000;
const setPipeSize = 1031; // F_SETPIPE_SZ
/** What a wide pipe holds: any process may ask for it (fs.pipe-max-size). */
export const pipeBytes = 1024 * 1024;

export interface PipeEnds {
  readonly read: number;
  readonly write: number;
}

/**
 * A pipe with this process's end in non-blocking mode and the other one, for a child, in blocking mode. Throws HostError.
 */
export function pipeTo(ours: keyof PipeEnds): PipeEnds {
  const numbers = Buffer.alloc(8); // int[2]
  must('making a pipe', 'pipe2', numbers, oCloexec);
  const ends = { read: numbers.readInt32LE(0), write: numbers.readInt32LE(4) };
  try {
    setNonBlocking(ends[ours], true);
    return ends;
  } catch (error) {
    for (const fd of [ends.read, ends.write]) closeFd(fd);
    throw error;
  }
}

/** The same, which holds `pipeBytes` where the kernel permits that. */
export function widePipe(ours: keyof PipeEnds): PipeEnds {
  const ends = pipeTo(ours);
  // A user who has very many pipes gets no more than 64 KiB, which is slower.
  attempt('fcntl', ends.write, setPipeSize, pipeBytes);
  return ends;
}
