import type { ForeignFormat } from '#spec';
import type { ForeignFile, ForeignInspection } from './foreign-file.ts';
import { inspectVdi } from './vdi.ts';
import { inspectVhdx } from './vhdx.ts';
import { inspectVmdk } from './vmdk.ts';
import { inspectVpc } from './vpc.ts';

const gates = { vmdk: inspectVmdk, vdi: inspectVdi, vhdx: inspectVhdx, vpc: inspectVpc } as const;

/**
 * Checks the header of an image before a QEMU program reads it: what could make QEMU open another file, or allocate
 * without a limit, is a problem. The content behind it is left to the converter, which can reach nothing else.
 */
export async function inspectForeign(
  format: ForeignFormat,
  file: ForeignFile,
): Promise<ForeignInspection> {
  const { virtualBytes, problems } = await gates[format](file);
  if (problems.length > 0) return { virtualBytes: 0, problems };
  if (Number.isSafeInteger(virtualBytes) && virtualBytes > 0) return { virtualBytes, problems };
  return { virtualBytes: 0, problems: ['its virtual size is not one that a disk can have'] };
}
