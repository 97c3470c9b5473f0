import * as v from 'valibot';
import { printable } from '#spec';
import type { TaskEvent } from '../task-event.ts';

const texts = v.array(v.string());
const result = v.object({ v1: v.object({ errors: v.optional(texts, []) }) });
/** Each stage of a boot by its name, beside other values. */
const status = v.object({ v1: v.record(v.string(), v.unknown()) });
/** By their level; since cloud-init 23.4. */
const stage = v.object({ recoverable_errors: v.record(v.string(), texts) });

const separator = '\x1e';
const maxNamed = 3;
const maxTextLength = 200;
const maxDetailLength = 2000;

/** As one is that is longer than what is read of it. */
const unreadable: TaskEvent = {
  message:
    'cloud-init has finished, with a report that can not be read: see /run/cloud-init/result.json in the guest',
  annotations: { status: 'unknown' },
};

/** What cloud-init wrote when it finished, `result.json` and `status.json`, each cut where it is long. */
export function cloudInitEvent(output: string): TaskEvent {
  const [first = '', second = ''] = output.split(separator);
  const { errors } = decode(result, ...endsOf(first))?.v1 ?? {};
  if (errors !== undefined && errors.length > 0) return withTexts('errors', errors);
  const stages = decode(status, second)?.v1;
  if (errors === undefined || stages === undefined) return unreadable;
  const warnings = Object.values(stages).flatMap((value) => {
    const found = v.safeParse(stage, value, { abortEarly: true });
    return found.success ? Object.values(found.output.recoverable_errors).flat() : [];
  });
  if (warnings.length > 0) return withTexts('warnings', warnings);
  return { message: 'cloud-init has finished', annotations: { status: 'done' } };
}

function withTexts(what: 'errors' | 'warnings', all: readonly string[]): TaskEvent {
  const named = all.slice(0, maxNamed).map((text) => printable(text, maxTextLength));
  const more = all.length > maxNamed ? `; and ${all.length - maxNamed} more` : '';
  return {
    message: `cloud-init has finished with ${what}: ${named.join('; ')}${more}`,
    annotations: {
      status: what === 'errors' ? 'error' : 'degraded',
      [what]: printable(all.join('; '), maxDetailLength),
    },
  };
}

/** A text, and how it may go on where it is cut in its last list, the errors: in one of them or behind one. */
function endsOf(text: string): readonly string[] {
  return [text, `${text}"]}}`, `${text.slice(0, text.lastIndexOf('",') + 1)}]}}`];
}

/** The first of the texts that can be read. */
function decode<T>(
  schema: v.GenericSchema<unknown, T>,
  ...alternatives: readonly string[]
): T | undefined {
  for (const text of alternatives) {
    try {
      const found = v.safeParse(schema, JSON.parse(text), { abortEarly: true });
      if (found.success) return found.output;
    } catch {
      // No JSON.
    }
  }
  return undefined;
}
