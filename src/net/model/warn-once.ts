import type { Logger } from '#host';

/** Logs a warning about a network once per process, not once per VM. */
export class WarnOnce {
  readonly #log: Logger;
  readonly #logged = new Set<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Whether it was for the first time. */
  warn(message: string, fields: Readonly<Record<string, unknown>>): boolean {
    const text = JSON.stringify([message, fields]);
    if (this.#logged.has(text)) return false;
    this.#logged.add(text);
    this.#log.warn(message, fields);
    return true;
  }
}
