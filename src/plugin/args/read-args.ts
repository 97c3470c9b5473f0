import { quoted } from '#spec';
import { optionKinds } from './options.ts';
import { type OptionKind, Refusal, type Wish } from './wish.ts';

/** A wish, and the index of its option in `args`. */
export type PlacedWish = Wish & { readonly at: number };

/** What is wrong with an option. */
export interface ArgProblem {
  readonly at: number;
  readonly text: string;
}

/** What a list of QEMU's arguments asks for, and everything in it that can't be had. */
export interface ReadArgs {
  readonly wishes: readonly PlacedWish[];
  readonly problems: readonly ArgProblem[];
}

const byName: ReadonlyMap<string, OptionKind> = new Map(
  optionKinds.flatMap((kind) => kind.names.map((name) => [name, kind] as const)),
);

/** Reads arguments by QEMU's own rules: an option has one or two dashes, and takes the next argument if it has a value. */
export function readArgs(args: readonly string[]): ReadArgs {
  const wishes: PlacedWish[] = [];
  const problems: ArgProblem[] = [];
  for (let at = 0; at < args.length; ) {
    const arg = args[at] ?? '';
    const kind = byName.get(arg.replace(/^--?/, ''));
    const next = args[at + 1];
    const known = arg.startsWith('-') ? kind : undefined;
    const taken = takesNext(arg, known, next) ? 2 : 1;
    try {
      wishes.push(...readOption(arg, known, next).map((wish) => ({ ...wish, at })));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      problems.push({ at, text: error.message });
    }
    at += taken;
  }
  return { wishes, problems };
}

/** What follows an unknown option is its value: one message is enough for both. */
function takesNext(arg: string, kind: OptionKind | undefined, next: string | undefined): boolean {
  if (kind !== undefined) return kind.value !== undefined;
  return /^-[^\s=]+$/.test(arg) && next !== undefined && !next.startsWith('-');
}

/** Messages begin with the option. */
function readOption(
  arg: string,
  kind: OptionKind | undefined,
  next: string | undefined,
): readonly Wish[] {
  if (kind === undefined) throw new Refusal(unknown(arg));
  if (kind.value !== undefined && next === undefined) throw new Refusal(`${arg} has no value`);
  if (kind.read === undefined)
    throw new Refusal(`${arg} is not supported: ${kind.becomes.replace(/\.$/, '')}`);
  try {
    return kind.read(kind.value === undefined ? '' : (next ?? ''));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    throw new Refusal(`${arg} ${error.message}`);
  }
}

function unknown(arg: string): string {
  if (!arg.startsWith('-')) {
    return `${quoted(arg)} is no option: write the disk as image_path, or as the value after "-drive"`;
  }
  const [first = '', ...rest] = arg.split(/[\s=]/);
  if (rest.length > 0 && byName.has(first.replace(/^--?/, ''))) {
    return `${quoted(arg)}: an option and its value are two items of the list`;
  }
  return `${quoted(arg)} is not known; leave it out, or use a key of this driver`;
}
