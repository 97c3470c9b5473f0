import { closeSync, constants, readFileSync, writeSync } from 'node:fs';
import * as v from 'valibot';
import { type Logger, openPath } from '#host';
import { messageOf } from '../error.ts';

const fact = v.pipe(v.string(), v.maxLength(40));
const schema = v.object({
  /** Conditions of `ready` that were met once. */
  met: v.exactOptional(v.array(fact)),
  /** Reported as ready, as not ready in time, or ended for that. */
  readiness: v.exactOptional(v.picklist(['ready', 'late', 'failed'])),
  /** Why its task is to fail. */
  failure: v.exactOptional(v.string()),
  /** What was reported of the current boot, which began with this event. */
  phases: v.exactOptional(v.array(fact)),
  resetAtMs: v.exactOptional(v.number()),
  readyAfterMs: v.exactOptional(v.number()),
});

export type Progress = v.InferOutput<typeof schema>;

/** The tmpfs may be full later: the file has its one page from the beginning, and is written in place. */
const pageBytes = 4096;

/** How far a guest has come, for the next plugin process: what was reported once is not reported again. */
export class ProgressFile {
  readonly #path: string;
  readonly #log: Logger;
  #progress: Progress;

  private constructor(path: string, progress: Progress, log: Logger) {
    this.#path = path;
    this.#progress = progress;
    this.#log = log;
  }

  /** Reads what an earlier process wrote; a VM that was just started has come nowhere. */
  static open(path: string, log: Logger): ProgressFile {
    const file = new ProgressFile(path, read(path), log);
    file.note({});
    return file;
  }

  get progress(): Progress {
    return this.#progress;
  }

  /** A failure to write costs no more than an event that a later process repeats. */
  note(change: Progress): void {
    this.#progress = { ...this.#progress, ...change };
    try {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW;
      const fd = openPath(this.#path, flags, 0o600);
      try {
        writeSync(fd, JSON.stringify(this.#progress).padEnd(pageBytes), 0);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      this.#log.debug('progress not recorded', { path: this.#path, error: messageOf(error) });
    }
  }
}

function read(path: string): Progress {
  try {
    return v.parse(schema, JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return {}; // there is none yet, or a process ended while it wrote it
  }
}
