import * as v from 'valibot';
import { QmpError } from './error.ts';

type Empty = Readonly<Record<never, never>>;

/** Every command this driver sends to the agent inside a guest and expects an answer to. */
export interface AgentCommands {
  'guest-ping': { arguments: Empty; return: Empty };
  /** Nanoseconds since the epoch. */
  'guest-set-time': { arguments: { readonly time: number }; return: Empty };
  /** Starts a program. Its environment replaces the agent's own. */
  'guest-exec': {
    arguments: {
      readonly path: string;
      readonly arg: readonly string[];
      /** `NAME=value`. The agent does not log it, unlike the arguments. */
      readonly env: readonly string[];
      /** Whether its output is kept for guest-exec-status; */
      readonly 'capture-output'?: boolean;
    };
    return: { readonly pid: number };
  };
  /** After it has reported an exit the agent does not know the pid any more. */
  'guest-exec-status': {
    arguments: { readonly pid: number };
    return: {
      readonly exited: boolean;
      readonly exitcode?: number;
      readonly signal?: number;
      /** In base64. */
      readonly 'out-data'?: string;
    };
  };
  /** Keeps programs in the guest from writing to its file systems, of which it returns the number. */
  'guest-fsfreeze-freeze': { arguments: Empty; return: number };
  'guest-fsfreeze-thaw': { arguments: Empty; return: number };
  'guest-network-get-interfaces': {
    arguments: Empty;
    return: readonly {
      readonly name: string;
      readonly 'ip-addresses'?: readonly { readonly 'ip-address': string }[];
    }[];
  };
}

/** Checks what a guest answered. Throws QmpError `protocol`. */
export function decodeAgentAnswer<C extends keyof AgentCommands>(
  command: C,
  value: unknown,
): AgentCommands[C]['return'] {
  const result = v.safeParse(answers[command], value, { abortEarly: true });
  if (result.success) return result.output;
  throw new QmpError('protocol', `the guest agent's answer to ${command} is unusable`);
}

const whole = v.pipe(v.number(), v.safeInteger());
const count = v.pipe(whole, v.minValue(0));
const nothing = v.pipe(
  v.unknown(),
  v.transform((): Empty => ({})),
);

const answers: {
  readonly [C in keyof AgentCommands]: v.GenericSchema<unknown, AgentCommands[C]['return']>;
} = {
  'guest-ping': nothing,
  'guest-set-time': nothing,
  'guest-exec': v.object({ pid: count }),
  'guest-exec-status': v.object({
    exited: v.boolean(),
    exitcode: v.exactOptional(whole),
    signal: v.exactOptional(whole),
    'out-data': v.exactOptional(v.string()),
  }),
  'guest-fsfreeze-freeze': count,
  'guest-fsfreeze-thaw': count,
  'guest-network-get-interfaces': v.array(
    v.object({
      name: v.string(),
      'ip-addresses': v.exactOptional(v.array(v.object({ 'ip-address': v.string() }))),
    }),
  ),
};
