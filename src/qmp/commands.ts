import * as v from 'valibot';
import { QmpError } from './error.ts';

/** A command without arguments, or an answer without content. */
type Empty = Readonly<Record<never, never>>;

/** QEMU's RunState, to which later versions may add. */
type RunState =
  | 'prelaunch'
  | 'running'
  | 'paused'
  | 'shutdown'
  | 'guest-panicked'
  | 'io-error'
  | 'watchdog'
  | 'internal-error'
  | 'suspended'
  | (string & {});

const fileSets = v.array(
  v.object({
    'fdset-id': v.number(),
    fds: v.array(v.object({ opaque: v.exactOptional(v.string()) })),
  }),
);

/** One entry of query-named-block-nodes, as far as it is used. */
export interface BlockNode {
  readonly 'node-name'?: string;
  readonly file: string;
  readonly ro?: boolean;
  readonly image?: { readonly 'virtual-size': number };
}

/** A long piece of work of QEMU's, in units of its own. */
interface Job {
  readonly id: string;
  readonly status: 'concluded' | (string & {});
  readonly 'current-progress': number;
  readonly 'total-progress': number;
  readonly error?: string;
}

/** Integers beyond 2^53 are bigint. */
type BlockStats = Readonly<
  Record<
    | 'rd_bytes'
    | 'wr_bytes'
    | 'rd_operations'
    | 'wr_operations'
    | 'flush_operations'
    | 'failed_rd_operations'
    | 'failed_wr_operations',
    number | bigint
  >
>;

/** Every command this driver sends: name, arguments, answer. */
export interface Commands {
  'query-status': {
    arguments: Empty;
    return: { readonly status: RunState; readonly running: boolean };
  };
  /** `frontend-open` is whether the guest's side of a serial port is open. */
  'query-chardev': {
    arguments: Empty;
    return: readonly { readonly label: string; readonly 'frontend-open': boolean }[];
  };
  cont: { arguments: Empty; return: Empty };
  /** Pauses the guest. */
  stop: { arguments: Empty; return: Empty };
  system_reset: { arguments: Empty; return: Empty };
  'inject-nmi': { arguments: Empty; return: Empty };
  /** QEMU may close before it answers; the SHUTDOWN event comes first either way. */
  quit: { arguments: Empty; return: Empty };
  system_powerdown: { arguments: Empty; return: Empty };
  'qom-get': {
    arguments: { readonly path: string; readonly property: string };
    /** Any value, as the property has it; integers beyond 2^53 are bigint. See `figure`. */
    return: unknown;
  };
  /** Of each object below this one in QEMU's tree. */
  'qom-list': {
    arguments: { readonly path: string };
    return: readonly { readonly name: string }[];
  };
  'chardev-add': { arguments: Readonly<Record<string, unknown>>; return: Empty };
  /** Refused while a device uses it. */
  'chardev-remove': { arguments: { readonly id: string }; return: Empty };
  device_add: { arguments: Readonly<Record<string, unknown>>; return: Empty };
  /** DEVICE_DELETED follows once the device is gone. */
  device_del: { arguments: { readonly id: string }; return: Empty };
  /** Names a descriptor that was passed with the command; the next command that uses the name takes it. */
  getfd: { arguments: { readonly fdname: string }; return: Empty };
  /** Makes a file of the descriptor that was passed with the command, `/dev/fdset/<fdset-id>`, or adds it to that file. */
  'add-fd': {
    arguments: { readonly 'fdset-id'?: number; readonly opaque?: string };
    return: { readonly 'fdset-id': number };
  };
  'remove-fd': { arguments: { readonly 'fdset-id': number }; return: Empty };
  /** Those of the command line as well. */
  'query-fdsets': { arguments: Empty; return: v.InferOutput<typeof fileSets> };
  set_password: {
    arguments: { readonly protocol: 'vnc'; readonly password: string };
    return: Empty;
  };
  /** The VNC server listens on these sockets, by their names, and on no others. Since QEMU 7.1. */
  'display-update': {
    arguments: {
      readonly type: 'vnc';
      readonly addresses: readonly { readonly type: 'fd'; readonly str: string }[];
    };
    return: Empty;
  };
  /** Writes the guest's screen into a file; `format` since QEMU 7.1, PPM when left out. */
  screendump: {
    arguments: { readonly filename: string; readonly format?: 'png' };
    return: Empty;
  };
  /** Counted for each device of a disk, by its topmost node. */
  'query-blockstats': {
    arguments: Empty;
    return: readonly { readonly 'node-name'?: string; readonly stats: BlockStats }[];
  };
  block_resize: {
    arguments: { readonly 'node-name': string; readonly size: number };
    return: Empty;
  };
  'blockdev-add': { arguments: Readonly<Record<string, unknown>>; return: Empty };
  'blockdev-del': { arguments: { readonly 'node-name': string }; return: Empty };
  /** Gives nodes other options, a node below them among these; what is left out becomes the default. */
  'blockdev-reopen': {
    arguments: { readonly options: readonly Readonly<Record<string, unknown>>[] };
    return: Empty;
  };
  /** Copies a disk as it is now; the guest goes on, what it overwrites is copied first. */
  'blockdev-backup': {
    arguments: {
      readonly 'job-id': string;
      readonly device: string;
      readonly target: string;
      readonly speed: number;
      readonly sync: 'full';
      readonly 'on-target-error': 'report';
      readonly 'auto-dismiss': false;
    };
    return: Empty;
  };
  'query-jobs': { arguments: Empty; return: readonly Job[] };
  'job-cancel': { arguments: { readonly id: string }; return: Empty };
  /** Removes a job that has ended. */
  'job-dismiss': { arguments: { readonly id: string }; return: Empty };
  'query-named-block-nodes': {
    arguments: { readonly flat: boolean };
    return: readonly BlockNode[];
  };
}

/**
 * Checks an answer of QEMU, once. Throws QmpError `protocol` naming the first place where it is not what the command
 * promises: an emulator that a guest has taken over may answer anything, and be wrong in a million places.
 */
export function decodeAnswer<C extends keyof Commands>(
  command: C,
  value: unknown,
): Commands[C]['return'] {
  const result = v.safeParse(answers[command], value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const problem = `${v.getDotPath(issue) ?? 'answer'}: ${issue.message.slice(0, maxProblem)}`;
  throw new QmpError('protocol', `QEMU's answer to ${command} is unusable: ${problem}`);
}

/** Maximum characters of a problem, which quotes what QEMU sent. */
const maxProblem = 200;

const anything = v.unknown();
const nothing = v.pipe(
  anything,
  v.transform((): Empty => ({})),
);
const text = v.string();
const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const count = v.union([v.number(), v.bigint()]);

const answers: {
  readonly [C in keyof Commands]: v.GenericSchema<unknown, Commands[C]['return']>;
} = {
  'query-status': v.object({ status: text, running: v.boolean() }),
  'query-chardev': v.array(v.object({ label: text, 'frontend-open': v.boolean() })),
  cont: nothing,
  stop: nothing,
  system_reset: nothing,
  'inject-nmi': nothing,
  quit: nothing,
  system_powerdown: nothing,
  'qom-get': anything,
  'qom-list': v.array(v.object({ name: text })),
  'chardev-add': nothing,
  'chardev-remove': nothing,
  device_add: nothing,
  device_del: nothing,
  getfd: nothing,
  'add-fd': v.object({ 'fdset-id': v.number() }),
  'remove-fd': nothing,
  'query-fdsets': fileSets,
  set_password: nothing,
  'display-update': nothing,
  screendump: nothing,
  'query-blockstats': v.array(
    v.object({
      'node-name': v.exactOptional(text),
      stats: v.object({
        rd_bytes: count,
        wr_bytes: count,
        rd_operations: count,
        wr_operations: count,
        flush_operations: count,
        failed_rd_operations: count,
        failed_wr_operations: count,
      }),
    }),
  ),
  block_resize: nothing,
  'blockdev-add': nothing,
  'blockdev-del': nothing,
  'blockdev-reopen': nothing,
  'blockdev-backup': nothing,
  'query-jobs': v.array(
    v.object({
      id: text,
      status: text,
      'current-progress': v.number(),
      'total-progress': v.number(),
      error: v.exactOptional(text),
    }),
  ),
  'job-cancel': nothing,
  'job-dismiss': nothing,
  'query-named-block-nodes': v.array(
    v.object({
      'node-name': v.exactOptional(text),
      file: text,
      ro: v.exactOptional(v.boolean()),
      image: v.exactOptional(v.object({ 'virtual-size': bytes })),
    }),
  ),
};
