/**
 * The error's own message, then those of its causes unless an earlier one contains them. On one line, as Nomad shows
 * them.
 */
export function messageOf(error: unknown): string {
  let text = '';
  let next = error;
  for (let depth = 0; depth < 5 && next !== undefined; depth += 1) {
    const own = ownMessage(next);
    if (own.includes(text)) text = own;
    else if (!text.includes(own)) text = `${text}: ${own}`;
    next = next instanceof Error ? next.cause : undefined;
  }
  return text || 'unknown error';
}

function ownMessage(error: unknown): string {
  if (error instanceof SuppressedError) {
    return `${messageOf(error.suppressed)}; then ${messageOf(error.error)}`;
  }
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(ownMessage).join('; ');
  }
  const message = error instanceof Error ? error.message || error.name : String(error);
  return oneLine(message);
}

/** In linear time: a pattern for blanks around a line break takes quadratic time for a long run of blanks. */
function oneLine(text: string): string {
  const lines = text.split(/[\r\n]+/).map((line) => line.trim());
  return lines.filter((line) => line !== '').join('; ');
}
