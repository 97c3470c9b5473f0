/** What a gate reads from: fewer bytes than asked for only where the file ends. */
export interface ForeignFile {
  readonly fileBytes: number;
  read(offset: number, bytes: number): Promise<Buffer>;
}

/** The size of the disk by its header, and every reason in it to refuse the image; each problem is a clause. */
export interface ForeignInspection {
  /** 0 where the header does not state one. */
  readonly virtualBytes: number;
  readonly problems: readonly string[];
}

/** An inspection that ends at its first problem. */
export function refused(problem: string): ForeignInspection {
  return { virtualBytes: 0, problems: [problem] };
}

/** A 64-bit number of a header; NaN where it is none that a size or an offset can be. */
export function sizeOf(value: bigint): number {
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? Number.NaN : Number(value);
}
