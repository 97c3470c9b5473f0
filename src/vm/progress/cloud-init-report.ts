import * as v from 'valibot';
import type { TaskEvent } from '../task-event.ts';
import { printable } from './printable.ts';

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

/** What cloud-init wrote when it finished, `result.json` and `status.json`; what is not as expected is left out. */
export function cloudInitEvent(output: string): TaskEvent {
  const [first = '', second = ''] = output.split(separator);
  const { errors } = decode(result, first)?.v1 ?? { errors: [] };
  const stages = Object.values(decode(status, second)?.v1 ?? {});
  const warnings = stages.flatMap((value) => {
    const found = v.safeParse(stage, value);
    return found.success ? Object.values(found.output.recoverable_errors).flat() : [];
  });
  if (errors.length > 0) return withTexts('errors', errors);
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

function decode<T>(schema: v.GenericSchema<unknown, T>, text: string): T | undefined {
  try {
    const found = v.safeParse(schema, JSON.parse(text));
    return found.success ? found.output : undefined;
  } catch {
    return undefined;
  }
}
