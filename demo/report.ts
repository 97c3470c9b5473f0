import { stripVTControlCharacters, styleText } from 'node:util';

/** The demo's output: numbered steps with the time since the start, and lines below them. */
export class Report {
  readonly #startedAtMs: number;
  #step: number;

  /** `startedAtMs` and `step` let a second process continue the first one's times and numbers. */
  constructor(startedAtMs: number, step = 0) {
    this.#startedAtMs = startedAtMs;
    this.#step = step;
  }

  get steps(): number {
    return this.#step;
  }

  step(title: string): void {
    this.#step += 1;
    const number = String(this.#step).padStart(2);
    console.log(`\n${this.#elapsed()} ${paint('bold', `${number}. ${title}`)}`);
  }

  /** A result of the step. */
  line(text: string): void {
    for (const part of text.split('\n')) console.log(`             ${part}`);
  }

  /** An event of the VM, with its time. */
  event(text: string): void {
    console.log(`${this.#elapsed()}     ${paint('cyan', `* ${text}`)}`);
  }

  /** A line from the guest's serial port. */
  console(text: string): void {
    const clean = printable(text);
    if (clean.trim() !== '') console.log(paint('dim', `    console | ${clean}`));
  }

  good(text: string): void {
    console.log(`\n${this.#elapsed()} ${paint('green', text)}`);
  }

  bad(text: string): void {
    console.error(`\n${this.#elapsed()} ${paint('red', text)}`);
  }

  #elapsed(): string {
    const seconds = (Date.now() - this.#startedAtMs) / 1000;
    return `[${seconds.toFixed(1).padStart(5)} s]`;
  }
}

/** Follows NO_COLOR and leaves pipes and files plain. */
function paint(format: Parameters<typeof styleText>[0], text: string): string {
  return styleText(format, text, { stream: process.stdout });
}

/** Keeps printable characters only: a guest may send sequences that control the terminal. */
function printable(line: string): string {
  return stripVTControlCharacters(line).replaceAll(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, '');
}
