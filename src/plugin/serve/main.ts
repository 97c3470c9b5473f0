import { writeSync } from 'node:fs';
import { shrinkAtRest, widenThreadPool } from '#host';
import { messageOf } from '../error/message.ts';
import { type CreateBackend, createQemu } from '../tasks/backend.ts';
import { readArguments, usage } from './arguments.ts';
import { handshakeLine, readLaunch } from './handshake.ts';
import { createLog } from './log.ts';
import { isOperatorCommand, runOperatorCommand } from './operator-command.ts';
import { installHandlers, watchOrphan } from './process-signals.ts';
import { startServer } from './server.ts';
import type { Listener } from './socket.ts';
import { version } from './version.ts';

const stdout = 1;
const stderr = 2;
/** Long enough for the last answer to be sent on a busy host, short beside the two seconds that Nomad waits after Shutdown. */
const lastAnswerMs = 200;

/**
 * The plugin: serves Nomad when Nomad started this process, prints what it is otherwise. `argv` is without the
 * interpreter and the file, `argv0` the path of this program. Settles when the process is serving; process.exit ends it.
 */
export async function main(
  argv: readonly string[],
  { env, argv0 }: { readonly env: NodeJS.ProcessEnv; readonly argv0: string },
  createBackend: CreateBackend = createQemu,
): Promise<void> {
  widenThreadPool(env);
  const launch = readLaunch(env);
  try {
    const [first, ...others] = argv;
    if (launch.kind === 'by-hand' && isOperatorCommand(first)) {
      const report = (text: string): void => void writeSync(stderr, `${text}\n`);
      const answer = await runOperatorCommand(first, others, report);
      writeSync(stdout, `${answer}\n`);
      return;
    }
    const { driverName, logFile, ...wants } = readArguments(argv, argv0);
    if (wants.help) {
      writeSync(stdout, usage);
      return;
    }
    if (wants.version) {
      writeSync(stdout, `nomad-driver-qmp ${version}\n`);
      return;
    }
    if (launch.kind === 'serve') await run({ driverName, logFile, env, createBackend });
    else refuse(launch.kind === 'refuse' ? launch.reason : byHand);
  } catch (error) {
    // The agent shows the first line of stdout, and of a plugin that ends nothing else.
    if (launch.kind === 'serve') writeSync(stdout, `${messageOf(error)}\n`);
    refuse(messageOf(error));
  }
}

const byHand = `this is a plugin of the Nomad agent, which starts it itself.
Put it into the agent's plugin_dir and give the agent a block plugin "nomad-driver-qmp" { }.
--help prints its arguments.`;

function refuse(reason: string): void {
  writeSync(stderr, `nomad-driver-qmp: ${reason}\n`);
  process.exitCode = 1;
}

interface RunOptions {
  readonly driverName: string;
  readonly logFile: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly createBackend: CreateBackend;
}

async function run({ driverName, logFile, env, createBackend }: RunOptions): Promise<void> {
  const log = createLog({ module: driverName, level: 'info', file: logFile });
  let server: Listener | undefined;
  const lifetime = installHandlers({ log, cleanUp: () => server?.[Symbol.dispose]() });
  const listener = await startServer({
    env,
    driverName,
    log,
    createBackend,
    fingerprintMs: readMs(env.NOMAD_DRIVER_QMP_FINGERPRINT_MS, 30_000),
    onShutdown: () => {
      setTimeout(() => lifetime.end(0, 'shutdown'), lastAnswerMs);
    },
    onRefused: () => {
      setTimeout(() => lifetime.end(1, 'the configuration was refused'), lastAnswerMs);
    },
  });
  server = listener;
  shrinkAtRest();
  watchOrphan({
    lifetime,
    afterMs: readMs(env.NOMAD_DRIVER_QMP_ORPHAN_MS, 600_000),
    connections: () => listener.connections,
  });
  try {
    writeSync(stdout, handshakeLine(listener.path, env));
  } catch (error) {
    log.error('the handshake could not be written', { error });
    lifetime.end(1, 'no host');
  }
}

function readMs(text: string | undefined, fallback: number): number {
  const ms = Number(text);
  return text !== undefined && Number.isFinite(ms) && ms > 0 ? ms : fallback;
}
