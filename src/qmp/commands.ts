import * as v from 'valibot';
import { QmpError } from './error.ts';
import { figure } from './message.ts';

/** A command without arguments, or an answer without content. */
export type Empty = Readonly<Record<never, never>>;

/** QEMU's RunState, of which it may grow new ones. */
export type RunState =
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

/** One entry of query-blockstats, cut down to what is used. Bytes and counts since the start. */
export interface BlockStatistics {
  /** Name of the legacy drive, mostly ''. */
  readonly device?: string;
  /** The device on top of the node: its id or its path in QEMU's object tree. */
  readonly qdev?: string;
  readonly 'node-name'?: string;
  readonly stats: {
    readonly rd_bytes: number;
    readonly wr_bytes: number;
    readonly rd_operations: number;
    readonly wr_operations: number;
    /** One past the highest byte ever written: how full a growing image is. */
    readonly wr_highest_offset: number;
  };
}

/** One entry of query-named-block-nodes, cut down to what is used. */
export interface BlockNode {
  readonly 'node-name'?: string;
  readonly drv: string;
  readonly ro: boolean;
  readonly file: string;
  /** Bytes; `actual-size` is what the image takes on the host's disk. */
  readonly image: { readonly 'virtual-size': number; readonly 'actual-size'?: number };
}

/** Every command this driver sends: name, arguments, answer. */
export interface Commands {
  'query-version': {
    arguments: Empty;
    return: {
      readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
    };
  };
  'query-status': {
    arguments: Empty;
    return: { readonly status: RunState; readonly running: boolean };
  };
  'query-kvm': {
    arguments: Empty;
    return: { readonly enabled: boolean; readonly present: boolean };
  };
  'query-cpus-fast': {
    arguments: Empty;
    /** `thread-id` is the vCPU's thread on the host. */
    return: readonly { readonly 'cpu-index': number; readonly 'thread-id': number }[];
  };
  /** `frontend-open` is whether the guest's side of a serial port is open. */
  'query-chardev': {
    arguments: Empty;
    return: readonly { readonly label: string; readonly 'frontend-open': boolean }[];
  };
  'query-qmp-schema': { arguments: Empty; return: readonly unknown[] };
  cont: { arguments: Empty; return: Empty };
  stop: { arguments: Empty; return: Empty };
  /** QEMU may close before it answers; the SHUTDOWN event comes first either way. */
  quit: { arguments: Empty; return: Empty };
  system_powerdown: { arguments: Empty; return: Empty };
  system_reset: { arguments: Empty; return: Empty };
  'inject-nmi': { arguments: Empty; return: Empty };
  'set-action': {
    arguments: {
      readonly reboot?: 'reset' | 'shutdown';
      readonly shutdown?: 'poweroff' | 'pause';
      readonly panic?: 'poweroff' | 'pause' | 'exit-failure' | 'none';
      readonly watchdog?:
        | 'reset'
        | 'shutdown'
        | 'poweroff'
        | 'pause'
        | 'debug'
        | 'none'
        | 'inject-nmi';
    };
    return: Empty;
  };
  balloon: { arguments: { readonly value: number }; return: Empty };
  'query-balloon': { arguments: Empty; return: { readonly actual: number } };
  'query-memory-size-summary': {
    arguments: Empty;
    return: { readonly 'base-memory': number; readonly 'plugged-memory'?: number };
  };
  'qom-get': {
    arguments: { readonly path: string; readonly property: string };
    /** Whatever the property is; integers beyond 2^53 are bigint. See `figure`. */
    return: unknown;
  };
  'qom-set': {
    arguments: { readonly path: string; readonly property: string; readonly value: unknown };
    return: Empty;
  };
  block_resize: {
    arguments: { readonly 'node-name': string; readonly size: number };
    return: Empty;
  };
  'query-blockstats': {
    arguments: { readonly 'query-nodes'?: boolean };
    return: readonly BlockStatistics[];
  };
  'query-named-block-nodes': {
    arguments: { readonly flat: boolean };
    return: readonly BlockNode[];
  };
  'add-fd': {
    arguments: { readonly 'fdset-id'?: number; readonly opaque?: string };
    return: { readonly 'fdset-id': number; readonly fd: number };
  };
  'remove-fd': {
    arguments: { readonly 'fdset-id': number; readonly fd?: number };
    return: Empty;
  };
  'ringbuf-read': {
    arguments: {
      readonly device: string;
      readonly size: number;
      readonly format?: 'utf8' | 'base64';
    };
    return: string;
  };
  'human-monitor-command': { arguments: { readonly 'command-line': string }; return: string };
}

/**
 * What QEMU answered, looked at once. Throws QmpError `protocol` naming the first place where the answer is not what
 * the command promises: an emulator that a guest has taken over may say anything, and be wrong in a million places.
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

/** Characters of a problem, which quotes what QEMU sent. */
const maxProblem = 200;

const anything = v.unknown();
const nothing = v.pipe(
  anything,
  v.transform((): Empty => ({})),
);
const text = v.string();
const count = v.pipe(
  v.union([v.number(), v.bigint()]),
  v.transform((value) => figure(value) ?? 0),
);
const version = v.object({ major: v.number(), minor: v.number(), micro: v.number() });

const blockStatistics = v.object({
  device: v.exactOptional(text),
  qdev: v.exactOptional(text),
  'node-name': v.exactOptional(text),
  stats: v.object({
    rd_bytes: count,
    wr_bytes: count,
    rd_operations: count,
    wr_operations: count,
    wr_highest_offset: count,
  }),
});

const blockNode = v.object({
  'node-name': v.exactOptional(text),
  drv: text,
  ro: v.boolean(),
  file: text,
  image: v.object({ 'virtual-size': count, 'actual-size': v.exactOptional(count) }),
});

const answers: {
  readonly [C in keyof Commands]: v.GenericSchema<unknown, Commands[C]['return']>;
} = {
  'query-version': v.object({ qemu: version }),
  'query-status': v.object({ status: text, running: v.boolean() }),
  'query-kvm': v.object({ enabled: v.boolean(), present: v.boolean() }),
  'query-cpus-fast': v.array(v.object({ 'cpu-index': v.number(), 'thread-id': v.number() })),
  'query-chardev': v.array(v.object({ label: text, 'frontend-open': v.boolean() })),
  'query-qmp-schema': v.array(anything),
  cont: nothing,
  stop: nothing,
  quit: nothing,
  system_powerdown: nothing,
  system_reset: nothing,
  'inject-nmi': nothing,
  'set-action': nothing,
  balloon: nothing,
  'query-balloon': v.object({ actual: count }),
  'query-memory-size-summary': v.object({
    'base-memory': count,
    'plugged-memory': v.exactOptional(count),
  }),
  'qom-get': anything,
  'qom-set': nothing,
  block_resize: nothing,
  'query-blockstats': v.array(blockStatistics),
  'query-named-block-nodes': v.array(blockNode),
  'add-fd': v.object({ 'fdset-id': v.number(), fd: v.number() }),
  'remove-fd': nothing,
  'ringbuf-read': text,
  'human-monitor-command': text,
};
