import { Console } from 'node:console';
import type { PluginLog } from './log.ts';

/** How this process may end. Whichever comes first wins; VMs are never touched by it. */
export interface Lifetime {
  /** Runs the clean-up and ends the process. */
  end(code: number, reason: string): void;
}

/**
 * The rules a process started by Nomad lives by: Ctrl-C and a hang-up at the agent's terminal are not for us, a
 * termination is an orderly end, a bug is one line in the log and a quick end, for a plugin that is half dead makes Nomad
 * start every task a second time.
 */
export function governProcess(o: {
  readonly log: PluginLog;
  readonly cleanUp: () => void;
}): Lifetime {
  let ended = false;
  const end = (code: number, reason: string): void => {
    if (ended) return;
    ended = true;
    o.log.debug('plugin ends', { reason });
    try {
      o.cleanUp();
    } finally {
      process.exit(code);
    }
  };
  process.on('SIGINT', () => {});
  process.on('SIGHUP', () => {});
  process.on('SIGTERM', () => end(0, 'SIGTERM'));
  const onBug = (error: unknown): void => {
    o.log.error('plugin crashes', { error });
    end(2, 'a bug');
  };
  process.on('uncaughtException', onBug);
  process.on('unhandledRejection', onBug);
  process.removeAllListeners('warning');
  process.on('warning', (warning) => o.log.debug('warning', { error: warning }));
  survivePipes();
  return { end };
}

/** Nobody reads after the agent has died; and stdout belongs to the handshake, whoever calls console.log. */
function survivePipes(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  globalThis.console = new Console(process.stderr, process.stderr);
}

/**
 * Ends a process that nobody will ever call again: its parent is gone and for a while no connection has been open. A new
 * agent that wants it would have connected long before.
 */
export function watchOrphan(o: {
  readonly lifetime: Lifetime;
  readonly afterMs: number;
  readonly connections: () => number;
}): void {
  const parent = process.ppid;
  let lonelySince: number | undefined;
  const look = (): void => {
    const orphan = process.ppid === 1 || process.ppid !== parent;
    if (!orphan || o.connections() > 0) lonelySince = undefined;
    else lonelySince ??= performance.now();
    if (lonelySince !== undefined && performance.now() - lonelySince >= o.afterMs) {
      o.lifetime.end(0, 'the agent is gone and has not come back');
    }
  };
  setInterval(look, Math.min(10_000, Math.max(50, o.afterMs / 4))).unref();
}
