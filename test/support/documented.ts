import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');

/** The line of a document's code that holds this text, without its comment, for the run directory of a VM. */
export function documentedLine(document: string, text: string, runDir: string): string {
  const lines = readFileSync(join(root, document), 'utf8').split('\n');
  const line = lines.find((it) => it.startsWith('socat') && it.includes(text));
  if (line === undefined) throw new Error(`${document} has no command with ${text}`);
  return line.replace(/\s+#.*$/, '').replace('RUN_DIR', runDir);
}
