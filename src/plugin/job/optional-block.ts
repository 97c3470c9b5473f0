import type { BlockField } from '../hcl/schema.ts';
import type { Job } from './job.ts';

/**
 * Blocks of a task that may be left out, by the name that they have in the job and as a field of VmSpec: the VM then
 * does not have what they describe. `read` gets the block as its field decodes it.
 */
type Blocks = Readonly<
  Record<string, { readonly field: BlockField; read(raw: never, job: Job): unknown }>
>;

type FieldsOf<B extends Blocks> = { readonly [K in keyof B]: B[K]['field'] };
type SpecsOf<B extends Blocks> = { readonly [K in keyof B]?: ReturnType<B[K]['read']> };

/** The part of the task schema that the blocks are. */
export function fieldsOf<B extends Blocks>(blocks: B): FieldsOf<B> {
  const fields = Object.entries(blocks).map(([name, { field }]) => [name, field]);
  return Object.fromEntries(fields) as FieldsOf<B>;
}

/** What those blocks give that the task has. */
export function readBlocks<B extends Blocks>(
  blocks: B,
  raw: { readonly [K in keyof B]?: unknown },
  job: Job,
): SpecsOf<B> {
  const specs = Object.entries(blocks).flatMap(([name, block]) =>
    // Decoded by this very block's field.
    raw[name] === undefined ? [] : [[name, block.read(raw[name] as never, job)]],
  );
  return Object.fromEntries(specs) as SpecsOf<B>;
}
