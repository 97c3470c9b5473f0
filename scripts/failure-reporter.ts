import type { TestEvent } from 'node:test/reporters';
import { inspect } from 'node:util';

const maxLength = 3000;

/** Reporter of node's test runner: each test that failed by itself, in a few lines, for the end of a long log. */
export default async function* failures(
  events: AsyncIterable<TestEvent>,
): AsyncGenerator<string, void, undefined> {
  for await (const { type, data } of events) {
    if (type !== 'test:fail') continue;
    const { error } = data.details;
    // Those around it fail as well.
    if ('failureType' in error && error.failureType === 'subtestsFailed') continue;
    yield `${JSON.stringify(describe(data.name, data.file, error))}\n`;
  }
}

function describe(name: string, file: string | undefined, error: Error): string {
  const cause = error.cause ?? error;
  const text = typeof cause === 'string' ? cause : inspect(cause, { depth: 3 });
  return `${name} (${file ?? 'no file'})\n${text.slice(0, maxLength)}`;
}
