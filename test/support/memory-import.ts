import { Budget } from '../../src/image/import/budget.ts';
import { checkDiskSize, type Sink } from '../../src/image/import/disk-sink.ts';
import type { FedProgram } from '../../src/image/import/fed-program.ts';
import { findDisk } from '../../src/image/import/find-disk.ts';

export interface MemoryImport {
  readonly member: string | undefined;
  readonly fileBytes: number;
  readonly writes: readonly (readonly [at: number, bytes: Buffer])[];
}

/** The import of a file in memory, with nothing of the system: its disk as the writes that make it. Throws ImageError. */
export async function importBytes(
  file: Uint8Array,
  options: {
    readonly maxBytes?: number;
    readonly member?: string;
    readonly pieceBytes?: number;
    /** What decompresses the file itself. */
    readonly program?: FedProgram;
  } = {},
): Promise<MemoryImport> {
  const { maxBytes = 2 ** 24, member, pieceBytes = 4096, program } = options;
  const budget = new Budget({ maxBytes });
  const writes: [number, Buffer][] = [];
  let [end, size] = [0, 0];
  const sink: Sink = {
    begin: () => {
      writes.length = 0;
      end = 0;
    },
    write: (at, bytes) => {
      if (at < end) throw new Error(`a write at ${at}, in front of ${end}`);
      end = at + bytes.length;
      checkDiskSize(end, maxBytes);
      writes.push([at, Buffer.from(bytes)]);
    },
    end: (fileBytes) => {
      checkDiskSize(fileBytes, maxBytes);
      if (fileBytes < end) throw new Error(`a size of ${fileBytes} with bytes up to ${end}`);
      size = fileBytes;
    },
  };
  async function* pieces(): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; at < file.length; at += pieceBytes) {
      const piece = Buffer.from(file.subarray(at, at + pieceBytes));
      budget.readBytes += piece.length;
      yield piece;
    }
  }
  const found = await findDisk(pieces(), { sink, budget, maxBytes, member, program });
  return { member: found, fileBytes: size, writes };
}
