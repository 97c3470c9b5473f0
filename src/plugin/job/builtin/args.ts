import { quoted } from '#spec';
import { type PlacedWish, readArgs } from '../../args/read-args.ts';
import type { Wish } from '../../args/wish.ts';
import type { Job } from '../job.ts';

/** What `args` ask for, by kind. */
export class Wishes {
  readonly #all: readonly PlacedWish[];

  constructor(all: readonly PlacedWish[]) {
    this.#all = all;
  }

  all<K extends Wish['kind']>(kind: K): readonly Extract<PlacedWish, { readonly kind: K }>[] {
    return this.#all.filter((wish) => isOf(wish, kind));
  }

  /** The last one, which wins. */
  last<K extends Wish['kind']>(kind: K): Extract<PlacedWish, { readonly kind: K }> | undefined {
    return this.all(kind).at(-1);
  }

  has(kind: Wish['kind']): boolean {
    return this.#all.some((wish) => wish.kind === kind);
  }
}

function isOf<K extends Wish['kind']>(
  wish: PlacedWish,
  kind: K,
): wish is Extract<PlacedWish, { readonly kind: K }> {
  return wish.kind === kind;
}

/** The place of an argument in the job, for messages. */
export function argKey(at: number): string {
  return `args[${at}]`;
}

/** Far more than any job has. Options that belong together are looked up among all others. */
const maxArgs = 1024;

/** Reports the options that are not possible, and those that the operator does not allow. */
export function readWishes(all: readonly string[], { builtin, report }: Job): Wishes {
  const args = all.slice(0, maxArgs);
  if (all.length > maxArgs) {
    report('args', `has ${all.length} items, more than the ${maxArgs} possible`);
  }
  const allowed = new Set(builtin?.args ?? []);
  // As the builtin driver does it: whatever has a dash, values included.
  for (const [at, arg] of args.entries()) {
    if (allowed.size > 0 && arg.trim().startsWith('-') && !allowed.has(arg)) {
      report(argKey(at), `${quoted(arg)} is not in args_allowlist`);
    }
  }
  const { wishes, problems } = readArgs(args);
  for (const { at, text } of problems) report(argKey(at), text);
  return new Wishes(wishes);
}
