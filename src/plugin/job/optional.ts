/** The optional blocks of a task, one line for each: `export { tpm } from './tpm.ts';`. */
export { display } from './display.ts';
export { exec } from './exec.ts';
export { ready } from './guest/ready.ts';
export { watchdog } from './watchdog.ts';
