import { createHash } from 'node:crypto';

/** Readable, and short enough for host names and socket paths. */
const maxBytes = 56;

/**
 * The VM's name from the task's id `<alloc>/<task>/<8 hex>`: `<task>-<8 hex>` when the task's name allows. Any other
 * name is made safe and gets a piece of the id's digest, so that two tasks never end up with one VM.
 */
export function vmName(taskId: string): string {
  const parts = taskId.split('/');
  const task = parts.slice(1, -1).join('/');
  const invocation = parts.at(-1) ?? '';
  const odd = !/^[0-9a-f]{8}$/.test(invocation);
  const plain = `${task}-${invocation}`;
  if (!odd && /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(task) && plain.length <= maxBytes)
    return plain;
  const digest = createHash('sha256').update(taskId).digest('hex').slice(0, 8);
  const tail = odd ? digest : `${digest}-${invocation}`;
  return `${slug(task, maxBytes - tail.length - 1)}-${tail}`;
}

function slug(text: string, max: number): string {
  const safe = text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, max)
    .replaceAll(/^-+|-+$/g, '');
  return safe === '' ? 'task' : safe;
}
