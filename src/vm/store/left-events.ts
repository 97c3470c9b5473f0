import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import * as v from 'valibot';
import { errnoOf } from '#host';

const event = v.object({
  atMs: v.number(),
  message: v.string(),
  annotations: v.record(v.string(), v.string()),
});

/** An event and when it was, for the operator. */
type LeftEvent = v.InferOutput<typeof event>;

/** A plugin that never comes back must not let the file grow. */
const maxBytes = 64 * 1024;

/**
 * Leaves an event of a VM for the plugin process whose VM it is: what one finds of networks that it shares with others
 * concerns their VMs as well, and VMs that it has not adopted yet. Nothing is left where the VM has no directory.
 */
export async function leaveEvent(path: string, left: LeftEvent): Promise<void> {
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
  try {
    await using file = await open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
    if ((await file.stat()).size > maxBytes) return;
    await file.write(`${JSON.stringify(left)}\n`);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** Takes what was left, once. */
export async function takeEvents(path: string): Promise<readonly LeftEvent[]> {
  const taken = `${path}.taken`;
  try {
    await rename(path, taken);
    await using file = await open(taken, constants.O_RDONLY | constants.O_NOFOLLOW);
    const text = await file.readFile('utf8');
    await rm(taken);
    return text.split('\n').flatMap(decode);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

/** A line that a power cut tore is none. */
function decode(line: string): readonly LeftEvent[] {
  try {
    const result = v.safeParse(event, JSON.parse(line));
    return result.success ? [result.output] : [];
  } catch {
    return [];
  }
}
