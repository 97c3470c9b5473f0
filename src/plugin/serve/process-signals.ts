import { Console } from 'node:console';
import type { PluginLog } from './log.ts';

/** Ends this process. The first reason counts; VMs are never affected. */
export interface Lifetime {
  /** Runs the clean-up and ends the process. */
  end(code: number, reason: string): void;
}

/**
 * Handlers of a process that Nomad starts: SIGINT and SIGHUP, which the agent's terminal sends to all its processes, are
 * ignored; SIGTERM is an orderly end; a bug is one line in the log and an immediate end, because a plugin that answers only
 * some calls makes Nomad start every task a second time.
 */
export function installHandlers({
  log,
  cleanUp,
}: {
  readonly log: PluginLog;
  readonly cleanUp: () => void;
}): Lifetime {
  let ended = false;
  const end = (code: number, reason: string): void => {
    if (ended) return;
    ended = true;
    log.debug('plugin ends', { reason });
    try {
      cleanUp();
    } finally {
      process.exit(code);
    }
  };
  process.on('SIGINT', () => {});
  process.on('SIGHUP', () => {});
  process.on('SIGTERM', () => end(0, 'SIGTERM'));
  const onBug = (error: unknown): void => {
    log.error('plugin crashes', { error });
    end(2, 'a bug');
  };
  process.on('uncaughtException', onBug);
  process.on('unhandledRejection', onBug);
  process.removeAllListeners('warning');
  process.on('warning', (warning) => log.debug('warning', { error: warning }));
  tolerateClosedPipes();
  return { end };
}

/** Writing fails after the agent has died. stdout is for the handshake alone, so console.log goes to stderr. */
function tolerateClosedPipes(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  globalThis.console = new Console(process.stderr, process.stderr);
}

/**
 * Ends a process that no agent will call again: its parent is gone and no connection has been open for `afterMs`. A new
 * agent that reattaches connects much sooner.
 */
export function watchOrphan({
  lifetime,
  afterMs,
  connections,
}: {
  readonly lifetime: Lifetime;
  readonly afterMs: number;
  readonly connections: () => number;
}): void {
  const parent = process.ppid;
  let unusedSince: number | undefined;
  const check = (): void => {
    const orphan = process.ppid === 1 || process.ppid !== parent;
    if (!orphan || connections() > 0) unusedSince = undefined;
    else unusedSince ??= performance.now();
    if (unusedSince !== undefined && performance.now() - unusedSince >= afterMs) {
      lifetime.end(0, 'the agent is gone and has not come back');
    }
  };
  setInterval(check, Math.min(10_000, Math.max(50, afterMs / 4))).unref();
}
