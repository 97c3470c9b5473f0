import type { Logger } from '#host';

/** What an operator is to know of a network, in the log once per process and not once per VM. */
export class Notices {
  readonly #log: Logger;
  readonly #said = new Set<string>();

  constructor(log: Logger) {
    this.#log = log;
  }

  warn(message: string, fields: Readonly<Record<string, unknown>>): void {
    const text = JSON.stringify([message, fields]);
    if (this.#said.has(text)) return;
    this.#said.add(text);
    this.#log.warn(message, fields);
  }
}
